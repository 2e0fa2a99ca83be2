// Asks for a lease with the job's own token, masks every rendering of its secret before anything else can print it,
// and sets it for the steps that follow. Run a second time by the runner, when the job is over: revokes it.
"use strict";

const crypto = require("crypto");
const fs = require("fs");
const os = require("os");
const path = require("path");

const environment = process.env;
const input = (name) => (environment[`INPUT_${name.toUpperCase()}`] || "").trim();

// Workflow commands are lines: what would end one is escaped, as the runner reads it.
const escaped = (text) => text.replace(/%/g, "%25").replace(/\r/g, "%0D").replace(/\n/g, "%0A");
const mask = (text) => {
  for (const line of String(text).split(/\r?\n/).filter((line) => line.length > 3)) {
    process.stdout.write(`::add-mask::${escaped(line)}${os.EOL}`);
  }
};
const tell = (kind, text) => process.stdout.write(`::${kind}::${escaped(String(text))}${os.EOL}`);

// The runner's files: a delimiter that nobody can guess keeps a value from ending early.
const keep = (file, name, value) => {
  const end = `end_${crypto.randomUUID()}`;
  fs.appendFileSync(environment[file], `${name}<<${end}${os.EOL}${value}${os.EOL}${end}${os.EOL}`);
};

// The strictest form of percent-encoding; encodeURIComponent leaves a few more characters as they are.
const percent = (text) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);

const patience = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// A token for each request: one hands out one credential, and lasts for minutes.
async function token(audience) {
  const address = environment.ACTIONS_ID_TOKEN_REQUEST_URL;
  const bearer = environment.ACTIONS_ID_TOKEN_REQUEST_TOKEN;
  if (!address || !bearer) {
    throw new Error("this job may not have a token: write `permissions: { id-token: write }` in the workflow");
  }
  const answer = await fetch(`${address}&audience=${encodeURIComponent(audience)}`, {
    headers: { authorization: `Bearer ${bearer}` },
    redirect: "error",
  });
  if (!answer.ok) throw new Error(`the runner gave no token: ${answer.status}`);
  const { value } = await answer.json();
  mask(value);
  return value;
}

// Again while the daemon says that it may help, with the same key, so that no lease is made twice.
async function call(method, url, audience, body, key) {
  for (let tries = 1; ; tries += 1) {
    let answer;
    try {
      const headers = { authorization: `Bearer ${await token(audience)}` };
      if (body) headers["content-type"] = "application/json";
      if (key) headers["idempotency-key"] = key;
      answer = await fetch(url, { method, headers, redirect: "error", body: body && JSON.stringify(body) });
    } catch (error) {
      if (tries >= 5) throw error;
      await patience(1000 * tries);
      continue;
    }
    const text = await answer.text();
    if (answer.ok) return JSON.parse(text);
    if ((answer.status === 429 || answer.status >= 503) && tries < 5) {
      const seconds = Number(answer.headers.get("retry-after")) || 2;
      await patience(1000 * Math.min(seconds, 60));
      continue;
    }
    let problem = {};
    try {
      problem = JSON.parse(text);
    } catch (_) {
      // Not the daemon's own words: its status has to do.
    }
    throw new Error(`pgvalet answers ${answer.status}: ${problem.detail || "and not as pgvalet does"} (${problem.code || "?"}, ${problem.request_id || "?"})`);
  }
}

function maskAll(credential) {
  const { password } = credential;
  for (const rendering of [password, percent(password), encodeURIComponent(password), credential.uri]) mask(rendering);
  mask(password.replace(/\\/g, "\\\\").replace(/'/g, "\\'"));
  mask(password.replace(/'/g, "'\\''"));
  mask(JSON.stringify(password).slice(1, -1));
  mask(Buffer.from(password).toString("base64"));
}

function variables(credential, lease) {
  const set = {
    PGHOST: credential.host,
    PGPORT: credential.port,
    PGDATABASE: credential.database,
    PGUSER: credential.user,
    PGPASSWORD: credential.password,
    PGSSLMODE: credential.sslmode,
    PGOPTIONS: credential.options,
    PGAPPNAME: `pgvalet/${lease.profile}`,
    PGVALET_LEASE_ID: lease.id,
  };
  if (credential.sslrootcert_pem) {
    set.PGSSLROOTCERT = path.join(environment.RUNNER_TEMP || os.tmpdir(), `pgvalet-${lease.id}.pem`);
    fs.writeFileSync(set.PGSSLROOTCERT, credential.sslrootcert_pem, { mode: 0o600 });
  } else if (credential.sslmode === "verify-full") {
    set.PGSSLROOTCERT = "system";
  }
  return set;
}

async function lease() {
  const url = input("url").replace(/\/+$/, "");
  const audience = input("audience") || url;
  const wish = { profile: input("profile"), tool: "github-actions" };
  for (const name of ["ttl", "reason", "ticket"]) if (input(name)) wish[name] = input(name);
  const key = crypto.randomUUID();
  // Kept before it is there: what a broken connection leaves behind is looked for and ended, too.
  keep("GITHUB_STATE", "url", url);
  keep("GITHUB_STATE", "audience", audience);
  keep("GITHUB_STATE", "profile", wish.profile);
  const answer = await call("POST", `${url}/v1/leases`, audience, wish, key);
  if (!answer.credential) {
    throw new Error("the connection broke before the credential came: run the job again");
  }
  maskAll(answer.credential);
  keep("GITHUB_STATE", "lease", answer.lease.id);
  const set = variables(answer.credential, answer.lease);
  if (input("environment") !== "false") for (const [name, value] of Object.entries(set)) keep("GITHUB_ENV", name, value);
  keep("GITHUB_OUTPUT", "lease-id", answer.lease.id);
  for (const name of ["host", "port", "database", "user", "password", "uri"]) {
    keep("GITHUB_OUTPUT", name, answer.credential[name]);
  }
  console.log(`lease ${answer.lease.id} under ${answer.lease.profile}, until ${answer.lease.expires_at}`);
}

// The lease; or, if its answer never came, all that this job has under the profile: a job sees no others.
async function revoke() {
  const { STATE_url: url, STATE_audience: audience, STATE_profile: profile, STATE_lease: id } = environment;
  const answer = id
    ? await call("DELETE", `${url}/v1/leases/${encodeURIComponent(id)}`, audience)
    : await call("POST", `${url}/v1/revocations`, audience, { profile });
  for (const lease of answer.leases) {
    console.log(`lease ${lease.id} is ${lease.state}`);
    const pem = path.join(environment.RUNNER_TEMP || os.tmpdir(), `pgvalet-${lease.id}.pem`);
    fs.rmSync(pem, { force: true });
  }
}

if (environment.STATE_url) {
  // It ends by itself: that it could not be ended earlier fails no job.
  revoke().catch((error) => tell("warning", `the lease could not be revoked, and ends at its time: ${error.message}`));
} else {
  lease().catch((error) => {
    tell("error", error.message);
    process.exitCode = 1;
  });
}
