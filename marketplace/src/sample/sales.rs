//! What is sold in the sample's week, for money that does not move: over the sandbox of Stripe, by the calls and webhooks that a
//! real sale makes.

use super::week::Random;
use crate::accounts::{Caller, by_handle};
use crate::app::App;
use crate::clock::SECOND_MS;
use crate::payments::{self, NewPrice};
use crate::problem::Result;
use crate::sandbox::{self, Sandbox, WEBHOOK_SECRET, signature};
use crate::search::Card;

/// (agent, one_time or subscription, US cents, days for nothing)
const PRICES: [(&str, &str, i64, i64); 8] = [
    ("kpi-watch", "subscription", 900, 0),
    ("dead-code", "one_time", 1_900, 0),
    ("api-scribe", "subscription", 1_200, 0),
    ("cost-trimmer", "one_time", 4_900, 0),
    ("case-writer", "subscription", 500, 0),
    ("leak-finder", "one_time", 2_900, 0),
    ("sql-doctor", "subscription", 1_500, 14),
    ("contract-guard", "one_time", 900, 0),
];

/// The till: every sale is told to the marketplace as Stripe tells it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Till<'a> {
    pub app: &'a App,
    pub sandbox: &'a Sandbox,
}

impl Till<'_> {
    /// Lets publishers take money, and sets prices.
    pub(super) async fn open(&self, publishers: &[Caller]) -> Result<()> {
        for publisher in publishers {
            let link = payments::onboard(self.app, publisher).await?;
            self.sandbox.enable(sandbox::session_of(&link))?;
            self.tell().await?;
            let seller = Caller::local(by_handle(self.app, &publisher.account.handle).await?);
            let snapshot = self.app.catalogue.now();
            for (name, kind, amount_minor, trial_days) in PRICES {
                let theirs = |c: &&Card| c.name == name && c.publisher_id == publisher.account.id;
                let Some(card) = snapshot.cards.iter().map(AsRef::as_ref).find(theirs) else { continue };
                let price = NewPrice { kind: kind.to_string(), amount_minor, currency: "usd".to_string(), trial_days };
                payments::set_price(self.app, &seller, &card.namespace, &card.name, &price).await?;
            }
        }
        Ok(())
    }

    /// Somebody who wants `card` buys it if it must be bought; not everybody does. Gives whether it can be installed.
    pub(super) async fn buy(&self, who: &Caller, card: &Card, random: &mut Random) -> Result<bool> {
        if payments::check_entitled(self.app, &who.account, card).await.is_ok() {
            return Ok(true);
        }
        if random.below(3) == 0 {
            return Ok(false);
        }
        let checkout = payments::buy(self.app, who, card).await?;
        let session = sandbox::session_of(&checkout.url);
        if random.below(8) == 0 {
            self.sandbox.abandon(session)?;
            self.tell().await?;
            return Ok(false);
        }
        let paid = self.sandbox.pay(session)?;
        self.tell().await?;
        // A few are not content, and get their money back.
        if paid.starts_with("pi_") && random.below(12) == 0 {
            self.sandbox.pay_back(&paid, card.price.amount_minor)?;
            self.tell().await?;
            return Ok(false);
        }
        Ok(true)
    }

    /// A team takes seats of the platform.
    pub(super) async fn seats(&self, who: &Caller, seats: i64) -> Result<()> {
        let checkout = payments::buy_seats(self.app, who, "team", seats).await?;
        self.sandbox.pay(sandbox::session_of(&checkout.url))?;
        self.tell().await
    }

    /// At the end of the week sellers get what is theirs.
    pub(super) async fn pay_out(&self, publishers: &[Caller]) -> Result<()> {
        for publisher in publishers {
            let seller = by_handle(self.app, &publisher.account.handle).await?;
            let Some(connect) = seller.connect_account.clone() else { continue };
            let revenue = payments::revenue(self.app, &Caller::local(seller)).await?;
            let due = revenue.iter().find(|r| r.currency == "usd").map_or(0, |r| r.next_payout_minor);
            if due > 0 {
                self.sandbox.payout(&connect, due, "paid");
            }
        }
        self.tell().await
    }

    async fn tell(&self) -> Result<()> {
        for event in self.sandbox.news() {
            let body = event.to_string();
            let header = signature(WEBHOOK_SECRET, self.app.clock.now_ms() / SECOND_MS, body.as_bytes());
            payments::receive(self.app, Some(&header), body.as_bytes()).await?;
        }
        Ok(())
    }
}
