<?php
// REPLACE THIS FILE: your application knows its users and their rooms.
// For the demo, one user logs in with HTTP authentication: DEMO_LOGIN=ada:PASSWORD
declare(strict_types=1);

/** Room → user → role. */
const MEMBERS = ['stand-up' => ['ada' => 'host', 'grace' => 'guest']];

/** The role of a user in a room, or null: the user may not enter. */
function role_in(string $room, string $user): ?string
{
    return MEMBERS[$room][$user] ?? null;
}

/** Returns the user, or answers 401. Yours reads the session of your application. */
function logged_in_user(): string
{
    [$user, $password] = explode(':', (string) getenv('DEMO_LOGIN'), 2) + [1 => ''];
    if ($user === '' || strlen($password) < 16) {
        throw new RuntimeException('Set DEMO_LOGIN to ada:PASSWORD, with a password of at least 16 characters.');
    }
    $given = ($_SERVER['PHP_AUTH_USER'] ?? '') . ':' . ($_SERVER['PHP_AUTH_PW'] ?? '');
    if (hash_equals("$user:$password", $given)) {
        return $user;
    }
    header('WWW-Authenticate: Basic realm="demo"');
    answer(401, ['code' => 'login_required', 'detail' => 'Log in first.']);
}
