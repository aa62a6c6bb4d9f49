// An issuer of OpenID Connect to sign in with: `oidc-provider` with its own forms, where any name and password will do.
// Says its address in the first line, takes where to send browsers back to in the first line that it reads, and then says `ready`.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const modules = process.argv[2];
const { default: Provider } = await import(pathToFileURL(createRequire(`${modules}/`).resolve('oidc-provider')).href);

// Who exists, as groups and mail address.
const PEOPLE = {
  anna: { groups: ['root', 'dev'], email: 'anna@example.com', email_verified: true },
  bo: { groups: ['other'], email: 'bo@example.com', email_verified: true },
  eve: { groups: ['other'], email: 'eve@example.com', email_verified: false },
};

let answer = (request, response) => response.writeHead(503).end();
const server = createServer((request, response) => answer(request, response));
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  console.log(issuer);
  const lines = createInterface({ input: process.stdin });
  lines.once('line', (redirect) => {
    const provider = new Provider(issuer, {
      clients: [{ client_id: 'pace', client_secret: 'the secret of pace', redirect_uris: [redirect] }],
      claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'preferred_username', 'groups'] },
      cookies: { keys: ['a key of a test'] },
      pkce: { required: () => true },
      findAccount: (context, id) => ({
        accountId: id,
        claims: () => ({ sub: `subject-of-${id}`, preferred_username: id, name: `The ${id}`, ...PEOPLE[id] }),
      }),
    });
    answer = provider.callback();
    console.log('ready');
  });
  // It ends with who started it.
  lines.once('close', () => process.exit());
});
