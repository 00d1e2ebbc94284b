// Gives a logged-in user a token for one room. The API key stays in this process.
import express from 'express';
import { requireLogin, roleIn } from './demo-users.js';

const { SIGNALBOX_URL, KEY_ID, KEY_SECRET, PORT = '3000' } = process.env;
if (!SIGNALBOX_URL || !KEY_ID || !KEY_SECRET) throw new Error('Set SIGNALBOX_URL, KEY_ID and KEY_SECRET.');

const app = express();
app.post('/token', requireLogin, async (request, response) => {
  const { user } = response.locals;
  const { room } = request.query;
  const role = roleIn(room, user);
  if (!role) return response.status(403).json({ code: 'room_not_allowed', detail: 'You may not enter this room.' });
  const [status, body] = await requestToken({ room, user, role });
  return response.status(status).set('Cache-Control', 'no-store').json(body);
});

/** Returns the status and the body of the answer to the page. Logs the reason, never the token. */
async function requestToken(wanted) {
  try {
    const answer = await fetch(`${SIGNALBOX_URL}/auth/token`, {
      method: 'POST',
      headers: { Authorization: `Basic ${btoa(`${KEY_ID}:${KEY_SECRET}`)}`, 'Content-Type': 'application/json' },
      body: JSON.stringify(wanted),
      redirect: 'manual', // a redirect would carry the key to another address
      signal: AbortSignal.timeout(5_000),
    });
    const { token, code, detail } = await answer.json();
    if (token) return [200, { token }];
    console.error(`Signalbox gives no token: ${answer.status} ${code}: ${detail}`);
    // 403 and "not now" concern the user. All other refusals are faults of this program or its key.
    return [[403, 429, 503].includes(answer.status) ? answer.status : 502, { code, detail: 'The call server refused.' }];
  } catch (error) {
    console.error(`Signalbox does not answer: ${error.cause?.code ?? error.name}`);
    return [503, { code: 'unreachable', detail: 'The call server does not answer.' }];
  }
}

app.listen(Number(PORT), '127.0.0.1', (error) => {
  if (error) throw error;
  console.log(`Tokens at http://localhost:${PORT}/token`);
});
