//! Who subscribes to what, day by day: at most one change of an account a day, so that its kind is beyond dispute.

use millstream::time::{DAY, EventTime, SECOND};
use millstream_proto::v1::{PaymentEvent, SubscriptionEvent, SubscriptionStatus};

use super::truth::Truth;
use super::{Day, account_id};
use crate::demo::random::Random;
use crate::demo::stream::timestamp;

/// The kind of a change of what an account pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It never paid before.
    New,
    /// It pays more.
    Expansion,
    /// It pays less.
    Contraction,
    /// It pays nothing any more.
    Churn,
    /// It pays again.
    Reactivation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Free,
    Team,
    Enterprise,
    /// Ended; it was of this plan.
    Ended,
}

#[derive(Debug, Clone, Copy)]
struct Account {
    plan: Plan,
    there: bool,
    seats: i64,
    yearly: bool,
    paid_before: bool,
    /// Days until the next payment.
    due_in: u32,
}

/// All subscriptions.
#[derive(Debug)]
pub struct Billing {
    random: Random,
    seed: u64,
    events: u64,
    accounts: Vec<Account>,
}

impl Billing {
    /// Before the first day.
    pub fn new(seed: u64, accounts: u32) -> Self {
        let mut random = Random::new(seed ^ 0xb111);
        let accounts = (0..accounts).map(|_| Account {
            plan: Plan::Free,
            there: false,
            seats: 1 + random.below(20) as i64,
            yearly: random.chance(30),
            paid_before: false,
            due_in: 0,
        });
        let accounts = accounts.collect();
        Self { random, seed, events: 0, accounts }
    }

    /// What the plan of an account is called.
    pub fn tier(&self, account: u32) -> &'static str {
        match self.accounts.get(account as usize).map(|a| a.plan) {
            Some(Plan::Team) => "team",
            Some(Plan::Enterprise) => "enterprise",
            _ => "free",
        }
    }

    /// One day of all accounts.
    pub fn day(&mut self, start: EventTime, there: &[bool], day: &mut Day, truth: &mut Truth) {
        for index in 0..self.accounts.len() as u32 {
            let Some(mut account) = self.accounts.get(index as usize).copied() else { continue };
            let before = account;
            let began = !account.there && there.get(index as usize).copied().unwrap_or(false);
            if began {
                account.there = true;
                // One in ten begins with a paid plan.
                account.plan = if self.random.chance(10) { Plan::Team } else { Plan::Free };
            } else if account.there {
                self.change(&mut account);
            }
            let changed = began || (account.plan, account.seats) != (before.plan, before.seats);
            let time = start + DAY / 2 + i64::from(index) * SECOND;
            if changed {
                self.tell(index, &mut account, (!began).then_some(before), time, day, truth);
            }
            self.pay(index, &mut account, time, day, truth);
            if let Some(slot) = self.accounts.get_mut(index as usize) {
                *slot = account;
            }
        }
        let mrr = [false, true].map(|euro| {
            let own = self.accounts.iter().enumerate().filter(|(i, _)| (i % 4 == 3) == euro);
            let paying: Vec<i64> = own.map(|(_, a)| mrr_micros(a)).filter(|mrr| *mrr > 0).collect();
            (paying.iter().sum(), paying.len() as u64)
        });
        truth.mrr(mrr);
        let there = self.accounts.iter().enumerate().filter(|(_, account)| account.there);
        truth.accounts(there.map(|(i, a)| (i as u32, (plan_name(a.plan), mrr_micros(a)))).collect());
        let mut tiers = [0; 3];
        for account in self.accounts.iter().filter(|a| a.there) {
            if let Some(slot) = tiers.get_mut(account.plan as usize) {
                *slot += 1;
            }
        }
        truth.tiers(tiers);
    }

    fn change(&mut self, account: &mut Account) {
        let roll = self.random.below(1_000);
        match (account.plan, roll) {
            (Plan::Free, 0..12) => account.plan = Plan::Team,
            (Plan::Team, 0..4) => account.plan = Plan::Enterprise,
            (Plan::Team | Plan::Enterprise, 4..16) => account.seats += 1 + self.random.below(5) as i64,
            (Plan::Team | Plan::Enterprise, 16..22) if account.seats > 1 => account.seats -= 1,
            (Plan::Enterprise, 22..24) => account.plan = Plan::Team,
            (Plan::Team | Plan::Enterprise, 24..29) => account.plan = Plan::Ended,
            (Plan::Ended, 0..15) => account.plan = Plan::Team,
            _ => {}
        }
    }

    fn id(&mut self) -> String {
        self.events += 1;
        format!("{:x}-b{:x}", self.seed, self.events)
    }

    fn tell(
        &mut self,
        index: u32,
        account: &mut Account,
        before: Option<Account>,
        time: EventTime,
        day: &mut Day,
        truth: &mut Truth,
    ) {
        let (was, is) = (before.map_or(0, |b| mrr_micros(&b)), mrr_micros(account));
        let kind = match (was, is) {
            (was, is) if was == is => None,
            (0, _) if account.paid_before => Some(Kind::Reactivation),
            (0, _) => Some(Kind::New),
            (_, 0) => Some(Kind::Churn),
            (was, is) if is > was => Some(Kind::Expansion),
            _ => Some(Kind::Contraction),
        };
        if let Some(kind) = kind {
            truth.movement(index % 4 == 3, kind, (is - was).abs());
        }
        account.paid_before |= is > 0;
        if was == 0 && is > 0 {
            account.due_in = 0;
        }
        let ended = account.plan == Plan::Ended;
        day.subscription.push(SubscriptionEvent {
            event_id: self.id(),
            event_time: timestamp(time),
            account_id: account_id(index),
            name: if before.is_none() {
                "started"
            } else if ended {
                "cancelled"
            } else {
                "changed"
            }
            .to_string(),
            subscription_id: format!("sub-{index:04}"),
            tier: match account.plan {
                Plan::Free => "free",
                Plan::Enterprise => "enterprise",
                Plan::Team | Plan::Ended => "team",
            }
            .to_string(),
            status: if ended { SubscriptionStatus::Cancelled } else { SubscriptionStatus::Active }.into(),
            seats: Some(account.seats),
            unit_price_minor: Some(price_minor(account)),
            currency: currency(index).to_string(),
            billing_interval: if account.yearly { "year" } else { "month" }.to_string(),
            ..SubscriptionEvent::default()
        });
    }

    fn pay(&mut self, index: u32, account: &mut Account, time: EventTime, day: &mut Day, truth: &mut Truth) {
        if mrr_micros(account) == 0 {
            return;
        }
        if account.due_in > 0 {
            account.due_in -= 1;
            return;
        }
        account.due_in = if account.yearly { 364 } else { 29 };
        let mut amounts = vec![("paid", account.seats * price_minor(account))];
        if self.random.chance(3) {
            amounts.push(("refunded", -price_minor(account)));
        }
        for (name, amount_minor) in amounts {
            truth.payment(index % 4 == 3, index, amount_minor);
            day.payment.push(PaymentEvent {
                event_id: self.id(),
                event_time: timestamp(time + SECOND),
                account_id: account_id(index),
                name: name.to_string(),
                payment_id: format!("payment-{:x}", self.events),
                amount_minor: Some(amount_minor),
                currency: currency(index).to_string(),
                subscription_id: format!("sub-{index:04}"),
                tier: self.tier(index).to_string(),
                ..PaymentEvent::default()
            });
        }
    }
}

fn plan_name(plan: Plan) -> &'static str {
    match plan {
        Plan::Free => "free",
        Plan::Team => "team",
        Plan::Enterprise => "enterprise",
        Plan::Ended => "ended",
    }
}

/// In what an account pays.
pub fn currency(account: u32) -> &'static str {
    if account % 4 == 3 { "EUR" } else { "USD" }
}

/// One seat for one interval, cents.
fn price_minor(account: &Account) -> i64 {
    let month = match account.plan {
        Plan::Free | Plan::Ended => 0,
        Plan::Team => 2_000,
        Plan::Enterprise => 4_500,
    };
    // Ten months' price for a year.
    if account.yearly { month * 10 } else { month }
}

/// Monthly recurring revenue in millionths of a cent.
fn mrr_micros(account: &Account) -> i64 {
    let price = account.seats * price_minor(account) * 1_000_000;
    if account.yearly { price / 12 } else { price }
}
