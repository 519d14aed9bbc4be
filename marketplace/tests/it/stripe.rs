//! The sandbox of Stripe as tests use it: on its own port, and what goes wrong in it fails the test.

use std::ops::Deref;

use millstream_marketplace::clock::Clock;
use millstream_marketplace::sandbox::{self, Sandbox};
pub use millstream_marketplace::sandbox::{WEBHOOK_SECRET, signature};

use crate::market::{Market, START_MS};

#[derive(Clone)]
pub struct Stripe(Sandbox);

impl Deref for Stripe {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.0
    }
}

impl Stripe {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sandbox = Sandbox::new(Clock::set_to(START_MS), &format!("http://{}", listener.local_addr().unwrap()));
        tokio::spawn(sandbox.clone().serve(listener, std::future::pending()));
        Self(sandbox)
    }

    /// From now on this marketplace is told what happens on its pages.
    pub fn tells(&self, market: &Market) {
        self.0.tells(&format!("{}/webhooks/stripe", market.url), market.clock.clone());
    }

    pub async fn tell_all(&self) {
        self.0.tell_all().await.unwrap();
    }

    pub fn session_of(url: &str) -> String {
        sandbox::session_of(url).to_string()
    }

    pub fn pay(&self, session: &str) -> String {
        self.0.pay(session).unwrap()
    }

    pub fn abandon(&self, session: &str) {
        self.0.abandon(session).unwrap();
    }

    pub fn renew(&self, subscription: &str, paid: bool) {
        self.0.renew(subscription, paid).unwrap();
    }

    pub fn set_seats(&self, subscription: &str, seats: i64) {
        self.0.set_seats(subscription, seats).unwrap();
    }

    pub fn cancel(&self, subscription: &str) {
        self.0.cancel(subscription).unwrap();
    }

    pub fn pay_back(&self, intent: &str, amount: i64) {
        self.0.pay_back(intent, amount).unwrap();
    }

    pub fn enable(&self, account: &str) {
        self.0.enable(account).unwrap();
    }
}
