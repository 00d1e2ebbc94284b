// REPLACE THIS FILE: your application knows its users and their rooms.
// For the demo, one user logs in with HTTP authentication: DEMO_LOGIN=ada:PASSWORD
import { createHash, timingSafeEqual } from 'node:crypto';

const { DEMO_LOGIN = '' } = process.env;
if (!/^[^:]+:.{16,}$/.test(DEMO_LOGIN)) throw new Error('Set DEMO_LOGIN to ada:PASSWORD, with a password of at least 16 characters.');

/** Room → user → role. */
const MEMBERS = new Map([['stand-up', new Map([['ada', 'host'], ['grace', 'guest']])]]);

/** The role of a user in a room, or undefined: the user may not enter. */
export const roleIn = (room, user) => MEMBERS.get(room)?.get(user);

/** Puts the user into `response.locals.user`, or answers 401. Yours reads the session of your application. */
export function requireLogin(request, response, next) {
  const sent = request.get('Authorization') ?? '';
  if (timingSafeEqual(digest(sent), digest(`Basic ${Buffer.from(DEMO_LOGIN).toString('base64')}`))) {
    [response.locals.user] = DEMO_LOGIN.split(':');
    return next();
  }
  return response.status(401).set('WWW-Authenticate', 'Basic realm="demo"').json({ code: 'login_required', detail: 'Log in first.' });
}

/** Texts of one length, which the comparison needs. */
const digest = (text) => createHash('sha256').update(text).digest();
