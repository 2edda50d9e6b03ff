// Verifies a key-signed bundle with @sigstore/verify.  Arguments: the bundle's file, the public key's PEM file.  Out: the
// signed statement.
import { createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { bundleFromJSON } from '@sigstore/bundle';
import { toSignedEntity, toTrustMaterial, Verifier } from '@sigstore/verify';

const [bundleFile, keyFile] = process.argv.slice(2);
const bundle = bundleFromJSON(JSON.parse(readFileSync(bundleFile, 'utf8')));
const publicKey = createPublicKey(readFileSync(keyFile, 'utf8'));
const noAuthorities = { tlogs: [], ctlogs: [], certificateAuthorities: [], timestampAuthorities: [] };
const material = toTrustMaterial(noAuthorities, () => ({ publicKey, validFor: () => true }));
const thresholds = { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0, tsaThreshold: 0 };
new Verifier(material, thresholds).verify(toSignedEntity(bundle));
process.stdout.write(bundle.content.dsseEnvelope.payload);
