//! Letters: written in the transaction that they tell about, carried later, tried again until they are taken.

use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use crate::app::App;
use crate::config::Smtp;
use crate::db::{self, Tx};
use crate::problem::{Problem, Result};

const TRIES_MAX: i64 = 12;
const RETRY_MS: i64 = 30_000;

/// Writes a letter to an account.
pub async fn queue_for(tx: &mut Tx, now: i64, account: &str, subject: &str, body: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO mails (id, recipient, subject, body, due_at)
         SELECT $1, email, $2, $3, $4 FROM accounts WHERE id = $5",
    )
    .bind(db::new_id())
    .bind(subject)
    .bind(body)
    .bind(now)
    .bind(account)
    .execute(tx.on())
    .await?;
    Ok(())
}

/// Carries letters.
#[derive(Debug)]
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Mailer {
    /// Knows the server; connects when there is something to carry.
    pub fn new(smtp: &Smtp) -> Result<Self> {
        let bad = |what: &str, e: &dyn std::fmt::Display| Problem::invalid(format!("smtp.{what}: {e}"));
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(&smtp.url).map_err(|e| bad("url", &e))?.build();
        let from = smtp.from.parse().map_err(|e| bad("from", &e))?;
        Ok(Self { transport, from })
    }

    /// Carries what is due; gives how many letters were taken.
    pub async fn carry(&self, app: &App) -> Result<usize> {
        let mut taken = 0;
        for letter in claim(app).await? {
            let Err(why) = self.carry_one(&letter.to, &letter.subject, letter.body).await else {
                sent(app, &letter.id).await?;
                taken += 1;
                continue;
            };
            tracing::warn!(letter.id, letter.tries, why, "a letter was not taken; trying again later");
        }
        Ok(taken)
    }

    async fn carry_one(&self, to: &str, subject: &str, body: String) -> Result<(), String> {
        let to: Mailbox = to.parse().map_err(|e| format!("{e}"))?;
        let message = Message::builder().from(self.from.clone()).to(to).subject(subject).body(body);
        let message = message.map_err(|e| format!("{e}"))?;
        self.transport.send(message).await.map(drop).map_err(|e| format!("{e}"))
    }
}

/// A letter that is due.
struct Letter {
    id: String,
    to: String,
    subject: String,
    body: String,
    tries: i64,
}

/// Takes letters that are due for this machine alone: they are due again later, should they not be taken or should it crash.
async fn claim(app: &App) -> Result<Vec<Letter>> {
    let now = app.clock.now_ms();
    let mut tx = app.db.begin().await?;
    let due: Vec<(String, i64)> = sqlx::query_as(
        "SELECT id, tries FROM mails WHERE sent_at IS NULL AND due_at <= $1 AND tries < $2 ORDER BY id LIMIT 20",
    )
    .bind(now)
    .bind(TRIES_MAX)
    .fetch_all(tx.on())
    .await?;
    let mut letters = Vec::new();
    for (id, tries) in due {
        // Another machine that was quicker has moved it on.
        let claimed: Option<(String, String, String)> = sqlx::query_as(
            "UPDATE mails SET due_at = $1, tries = tries + 1 WHERE id = $2 AND sent_at IS NULL AND due_at <= $3
             RETURNING recipient, subject, body",
        )
        .bind(now + (RETRY_MS << tries.min(10)))
        .bind(&id)
        .bind(now)
        .fetch_optional(tx.on())
        .await?;
        letters.extend(claimed.map(|(to, subject, body)| Letter { id, to, subject, body, tries: tries + 1 }));
    }
    tx.commit().await?;
    Ok(letters)
}

async fn sent(app: &App, id: &str) -> Result<()> {
    let mut tx = app.db.begin().await?;
    sqlx::query("UPDATE mails SET sent_at = $1 WHERE id = $2")
        .bind(app.clock.now_ms())
        .bind(id)
        .execute(tx.on())
        .await?;
    tx.commit().await
}
