// An authority of a test, and the certificate that it gives a server on 127.0.0.1.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

function openssl(...args) {
  const { status, stderr, error } = spawnSync("openssl", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`openssl ${args[0]}: ${error ?? stderr}`);
}

const KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

export class Authority {
  #folder = mkdtempSync(join(tmpdir(), "antiphon-tls-"));

  constructor() {
    process.on("exit", () => rmSync(this.#folder, { recursive: true, force: true }));
    openssl("req", "-x509", ...KEY, "-days", "2", "-subj", "/CN=test", "-keyout", this.at("ca.key"), "-out", this.at("ca.pem"));
    const names = "basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n";
    writeFileSync(this.at("names"), names);
    this.renew();
  }

  at(name) {
    return join(this.#folder, name);
  }

  /** Writes a new certificate and its key. */
  renew() {
    openssl("req", ...KEY, "-subj", "/CN=localhost", "-keyout", this.at("key.pem"), "-out", this.at("request.pem"));
    const signed = ["-CA", this.at("ca.pem"), "-CAkey", this.at("ca.key"), "-extfile", this.at("names")];
    openssl("x509", "-req", "-days", "2", "-in", this.at("request.pem"), ...signed, "-out", this.at("chain.pem"));
  }

  /** Makes the certificate one that can't be used. */
  spoil() {
    writeFileSync(this.at("chain.pem"), "no certificate");
  }

  /** The flags of a server with the certificate. */
  get flags() {
    return ["--tls", this.at("chain.pem"), this.at("key.pem")];
  }

  /** What a client has to trust. */
  get ca() {
    return readFileSync(this.at("ca.pem"), "utf8");
  }

  /** One of the clients of `lib/clients.js`, over TLS. */
  client(client) {
    const { ca } = this;
    return { ...client, name: `${client.name}, TLS`, options: { ...client.options, ca }, flags: this.flags, isSealed: true };
  }
}
