// An OpenID Connect provider on loopback for the tests: registration, PKCE, resource indicators, refresh, RFC 9207.
// Prints its issuer.  argv: the resources (servers) that it gives tokens for, and how long a token lasts in seconds.
import { createServer } from 'node:http';
import Provider, { errors } from 'oidc-provider';

const [seconds, ...resources] = process.argv.slice(2);
const server = createServer((request, response) => handle(request, response));
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: 'known',
        client_secret: 'known-secret-known-secret-known-secret',
        redirect_uris: ['http://127.0.0.1/callback'],
        application_type: 'native',
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
        token_endpoint_auth_method: 'client_secret_basic',
      },
    ],
    scopes: ['openid', 'offline_access', 'read', 'write'],
    clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post'],
    ttl: { AccessToken: Number(seconds) },
    cookies: { keys: ['only for tests'] },
    findAccount: async (_, sub) => ({ accountId: sub, claims: async () => ({ sub }) }),
    issueRefreshToken: async () => true,
    features: {
      registration: { enabled: true },
      revocation: { enabled: true },
      introspection: { enabled: true, allowedPolicy: async () => true },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: async () => true,
        getResourceServerInfo: async (_, resource) => {
          if (!resources.includes(resource)) throw new errors.InvalidTarget();
          return { scope: 'read write', audience: resource, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } };
        },
      },
    },
  });
  callback = provider.callback();
  console.log(issuer);
});
let callback;
function handle(request, response) {
  callback(request, response);
}
