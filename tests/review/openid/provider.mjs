// An OpenID Connect provider (oidc-provider, certified by the OpenID Foundation) on this machine, for a test.
// Whoever logs in is in the groups of GROUPS; its own development pages ask for name and consent.
import Provider from 'oidc-provider';

const [port, back] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const GROUPS = { anna: ['staff', 'radiologists'], olga: ['it'], mallory: ['visitors'] };

const client = { redirect_uris: [back], grant_types: ['authorization_code'], response_types: ['code'] };
const provider = new Provider(issuer, {
  clients: [
    { ...client, client_id: 'mammoscope', client_secret: 'a secret: with+marks/' },
    { ...client, client_id: 'public', token_endpoint_auth_method: 'none' },
  ],
  claims: { openid: ['sub'], profile: ['preferred_username'], groups: ['groups'] },
  scopes: ['openid', 'profile', 'groups'],
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: `${id}, MD`, groups: GROUPS[id] ?? [] }),
  }),
  pkce: { required: () => true },
  cookies: { keys: ['of the test'] },
});
provider.listen(port, '127.0.0.1', () => console.log('listening'));
