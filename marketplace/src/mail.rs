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
        let now = app.clock.now_ms();
        let due: Vec<(String, String, String, String, i64)> = sqlx::query_as(
            "SELECT id, recipient, subject, body, tries FROM mails
             WHERE sent_at IS NULL AND due_at <= $1 AND tries < $2 ORDER BY id LIMIT 20",
        )
        .bind(now)
        .bind(TRIES_MAX)
        .fetch_all(app.db.read())
        .await?;
        let mut taken = 0;
        for (id, to, subject, body, tries) in due {
            let outcome = self.carry_one(&to, &subject, body).await;
            let (sent_at, due_at) = match &outcome {
                Ok(()) => (Some(now), now),
                Err(_) => (None, now + (RETRY_MS << tries.min(10))),
            };
            match outcome {
                Ok(()) => taken += 1,
                Err(why) => tracing::warn!(id, tries, why, "a letter was not taken; trying again later"),
            }
            let mut tx = app.db.begin().await?;
            sqlx::query("UPDATE mails SET sent_at = $1, due_at = $2, tries = tries + 1 WHERE id = $3")
                .bind(sent_at)
                .bind(due_at)
                .bind(id)
                .execute(tx.on())
                .await?;
            tx.commit().await?;
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
