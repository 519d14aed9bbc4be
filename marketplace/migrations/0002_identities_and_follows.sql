-- Accounts at a provider of identities (OpenID Connect), by its issuer and its own name for the person.
CREATE TABLE identities (
  issuer TEXT NOT NULL,
  subject TEXT NOT NULL,
  account_id TEXT NOT NULL REFERENCES accounts (id),
  created_at BIGINT NOT NULL,
  PRIMARY KEY (issuer, subject)
);
CREATE INDEX identities_account ON identities (account_id);

-- Who is told when a collection grows.
CREATE TABLE collection_follows (
  collection_id TEXT NOT NULL REFERENCES collections (id),
  account_id TEXT NOT NULL REFERENCES accounts (id),
  created_at BIGINT NOT NULL,
  -- When the last letter about it was written: at most one a day.
  told_at BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (collection_id, account_id)
);
CREATE INDEX collection_follows_account ON collection_follows (account_id);

-- Cancelled by who pays: it ends with the period.
ALTER TABLE subscriptions ADD COLUMN ends BIGINT NOT NULL DEFAULT 0;
