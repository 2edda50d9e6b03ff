// Signs one in-toto statement keyless with @sigstore/sign, against the certificate authority, logs and timestamp
// authority of @sigstore/mock, served over loopback HTTP.  In: a JSON request on stdin.  Out: bundle.json and
// trusted_root.json in the folder named on the command line.
import { createHash, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { bundleToJSON } from '@sigstore/bundle';
import {
  fulcioHandler, initializeCA, initializeCTLog, initializeTLog, initializeTSA, rekorHandler, tsaHandler,
} from '@sigstore/mock';
import { DSSEBundleBuilder, FulcioSigner, RekorWitness, TSAWitness } from '@sigstore/sign';

const request = JSON.parse(await text(process.stdin));
const minutesAgo = (minutes) => (minutes ? new Date(Date.now() - minutes * 60_000) : undefined);
const newKey = () => generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
const base64 = (bytes) => Buffer.from(bytes).toString('base64');

const ctLog = await initializeCTLog(newKey());
const ca = await initializeCA(newKey(), ctLog, minutesAgo(request.certificateMinutesAgo));
const tlog = await initializeTLog('http://127.0.0.1', newKey());
const tsa = await initializeTSA(newKey());

// The mock logs a proposed entry as it came; Rekor replaces a proposed DSSE envelope by hashes and signatures, and
// writes the certificate's PEM afresh.
const sha256 = (bytes) => ({ algorithm: 'sha256', value: createHash('sha256').update(bytes).digest('hex') });
const asLogged = ({ apiVersion, kind, spec }) => {
  if (kind !== 'dsse') return { apiVersion, kind, spec };
  const { envelope, verifiers } = spec.proposedContent;
  const { payload, signatures } = JSON.parse(envelope);
  const verifier = base64(new X509Certificate(Buffer.from(verifiers[0], 'base64')).toString());
  return {
    apiVersion,
    kind,
    spec: {
      envelopeHash: sha256(envelope),
      payloadHash: sha256(Buffer.from(payload, 'base64')),
      signatures: signatures.map(({ sig }) => ({ signature: sig, verifier })),
    },
  };
};
const rekor = { log: (entry) => tlog.log(asLogged(entry)) };

const handlers = [fulcioHandler(ca), rekorHandler(rekor), tsaHandler(tsa)];
const server = createServer(async (incoming, outgoing) => {
  const handler = handlers.find(({ path }) => path === incoming.url);
  const answer = handler ? await handler.fn(await text(incoming)) : { statusCode: 404, response: 'no such service' };
  outgoing.writeHead(answer.statusCode, { 'Content-Type': answer.contentType ?? 'text/plain' }).end(answer.response);
});
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const url = `http://127.0.0.1:${server.address().port}`;

const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
const token = [{ alg: 'none' }, { iss: request.issuer, sub: request.identity, aud: 'sigstore' }].map(encode).join('.') + '.';
const builder = new DSSEBundleBuilder({
  signer: new FulcioSigner({ fulcioBaseURL: url, identityProvider: { getToken: async () => token } }),
  witnesses: [
    new RekorWitness({ rekorBaseURL: url, entryType: request.entryType }),
    ...(request.timestamp ? [new TSAWitness({ tsaBaseURL: url })] : []),
  ],
});
const statement = Buffer.from(JSON.stringify(request.statement));
const bundle = await builder.create({ data: statement, type: request.payloadType ?? 'application/vnd.in-toto+json' });
server.close();

const validFor = { start: minutesAgo(24 * 60).toISOString() };
const log = (publicKey) => ({
  baseUrl: url,
  hashAlgorithm: 'SHA2_256',
  publicKey: { rawBytes: base64(publicKey), keyDetails: 'PKIX_ECDSA_P256_SHA_256', validFor },
  logId: { keyId: base64(createHash('sha256').update(publicKey).digest()) },
});
const authority = (...certificates) => ({
  subject: { organization: 'sigstore.mock', commonName: 'sigstore' },
  uri: url,
  certChain: { certificates: certificates.map((der) => ({ rawBytes: base64(der) })) },
  validFor,
});
const root = {
  mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
  tlogs: [log(tlog.publicKey)],
  certificateAuthorities: [authority(ca.rootCertificate)],
  ctlogs: [log(ctLog.publicKey)],
  timestampAuthorities: [authority(tsa.intCertificate, tsa.rootCertificate)],
};
const folder = process.argv[2];
writeFileSync(join(folder, 'bundle.json'), JSON.stringify(bundleToJSON(bundle)));
writeFileSync(join(folder, 'trusted_root.json'), JSON.stringify(root));
