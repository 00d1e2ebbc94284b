<?php
// Gives a logged-in user a token for one room. The API key stays on this server.
declare(strict_types=1);
require __DIR__ . '/demo_users.php';

foreach (['SIGNALBOX_URL', 'KEY_ID', 'KEY_SECRET'] as $name) {
    getenv($name) ?: throw new RuntimeException("Set $name.");
}

function answer(int $status, array $body): never
{
    http_response_code($status);
    header('Content-Type: application/json');
    header('Cache-Control: no-store');
    exit(json_encode($body));
}

/** Returns the status and the body of the answer to the page. Logs the reason, never the token. */
function request_token(array $wanted): array
{
    $curl = curl_init(getenv('SIGNALBOX_URL') . '/auth/token');
    // curl follows no redirect, which would carry the key to another address.
    curl_setopt_array($curl, [
        CURLOPT_USERPWD => getenv('KEY_ID') . ':' . getenv('KEY_SECRET'),
        CURLOPT_HTTPHEADER => ['Content-Type: application/json'],
        CURLOPT_POSTFIELDS => json_encode($wanted, JSON_THROW_ON_ERROR),
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_TIMEOUT => 5,
    ]);
    $text = curl_exec($curl);
    $body = is_string($text) ? json_decode($text, true) : null;
    if (!is_array($body)) {
        error_log('Signalbox does not answer: ' . curl_error($curl));
        return [503, ['code' => 'unreachable', 'detail' => 'The call server does not answer.']];
    }
    $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
    if (isset($body['token'])) {
        return [200, ['token' => $body['token']]];
    }
    ['code' => $code, 'detail' => $detail] = $body + ['code' => '', 'detail' => ''];
    error_log("Signalbox gives no token: $status $code: $detail");
    // 403 and "not now" concern the user. All other refusals are faults of this program or its key.
    return [in_array($status, [403, 429, 503], true) ? $status : 502, ['code' => $code, 'detail' => 'The call server refused.']];
}

if ($_SERVER['REQUEST_METHOD'] !== 'POST') {
    header('Allow: POST');
    answer(405, ['code' => 'method_not_allowed', 'detail' => 'Use POST.']);
}
$user = logged_in_user();
$room = $_GET['room'] ?? '';
$role = is_string($room) ? role_in($room, $user) : null;
if ($role === null) {
    answer(403, ['code' => 'room_not_allowed', 'detail' => 'You may not enter this room.']);
}
answer(...request_token(['room' => $room, 'user' => $user, 'role' => $role]));
