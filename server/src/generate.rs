//! A platform that does not exist, over months: accounts, users, plans, agents, requests, bills, and the truth about them.
//!
//! The same shape and seed always give the same events. They come day by day, in the order of their times, so that years need no
//! more memory than a day. The truth is counted from what was made up, as it is made up, and knows nothing of the engine.

mod billing;
pub mod send;
mod truth;

use std::collections::BTreeMap;

use millstream::time::{DAY, EventTime, SECOND};
use millstream_proto::v1::{
    AgentEvent, ApiEvent, CostEvent, IdeEvent, IdentityEvent, IncidentEvent, MarketplaceEvent, PaymentEvent,
    PriceEvent, Status, StorageEvent, SubscriptionEvent, WorkflowEvent,
};

use crate::demo::random::Random;
use crate::demo::stream::timestamp;

pub use billing::{Billing, Kind, currency as billing_currency};
pub use truth::{DayTruth, Movements, Truth};

const MILLISECOND: i64 = 1_000_000;

/// The working day within which people are active: 7:00 to 21:00 UTC.
const WORK: (i64, i64) = (7 * 3_600_000, 21 * 3_600_000);

/// How long people work at a stretch, at most.
const SITTING_MS: i64 = 75 * 60_000;

/// The agent that everybody wants in the last quarter of the time.
const RISING: u64 = 7;

/// Users of one account.
const ACCOUNT_USERS: u32 = 5;

/// Agents on the platform.
pub const AGENTS: u64 = 24;

/// List prices, US dollars for a million tokens in and out, before and after they change halfway.
pub const MODELS: [(&str, [(f64, f64); 2]); 4] = [
    ("sonnet-4", [(3.0, 15.0), (2.5, 12.0)]),
    ("gpt-5-mini", [(0.25, 2.0), (0.25, 2.0)]),
    ("haiku-4", [(1.0, 5.0), (0.8, 4.0)]),
    ("qwen-3", [(0.5, 1.5), (0.5, 1.0)]),
];

const COUNTRIES: [&str; 8] = ["DE", "US", "IN", "BR", "JP", "FR", "GB", "CA"];
const EDITORS: [&str; 3] = ["vscode", "jetbrains", "neovim"];
const LANGUAGES: [&str; 5] = ["rust", "typescript", "python", "sql", "go"];
const FEATURES: [&str; 6] =
    ["file_edited", "completion_accepted", "file_opened", "agent_asked", "tests_run", "command_run"];
const ROUTES: [(&str, &str, f64); 6] = [
    ("GET", "/v1/agents", 18.0),
    ("POST", "/v1/agents/{id}/runs", 95.0),
    ("GET", "/v1/runs/{id}", 12.0),
    ("GET", "/v1/marketplace/search", 60.0),
    ("GET", "/v1/users/me", 6.0),
    ("POST", "/v1/billing/checkout", 210.0),
];
const SERVICES: [(&str, f64); 3] = [("compute", 40.0), ("database", 22.5), ("object storage", 6.25)];

/// How large the platform is, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// What makes it this platform and no other.
    pub seed: u64,
    /// Users at the end; three in five are there on the first day.
    pub users: u32,
    /// The first day, in days since the epoch.
    pub first_day: i32,
    /// Days.
    pub days: u32,
    /// Events that an active user causes on a day, about.
    pub events_per_user: u32,
}

/// The events of one day, each table in the order of time.
#[derive(Debug, Default)]
pub struct Day {
    /// `ide_events`.
    pub ide: Vec<IdeEvent>,
    /// `agent_events`.
    pub agent: Vec<AgentEvent>,
    /// `workflow_events`.
    pub workflow: Vec<WorkflowEvent>,
    /// `api_events`.
    pub api: Vec<ApiEvent>,
    /// `marketplace_events`.
    pub marketplace: Vec<MarketplaceEvent>,
    /// `subscription_events`.
    pub subscription: Vec<SubscriptionEvent>,
    /// `payment_events`.
    pub payment: Vec<PaymentEvent>,
    /// `price_events`.
    pub price: Vec<PriceEvent>,
    /// `cost_events`.
    pub cost: Vec<CostEvent>,
    /// `storage_events`.
    pub storage: Vec<StorageEvent>,
    /// `incident_events`.
    pub incident: Vec<IncidentEvent>,
    /// `identity_events`.
    pub identity: Vec<IdentityEvent>,
}

impl Day {
    /// Events of all tables.
    pub fn events(&self) -> usize {
        self.ide.len()
            + self.agent.len()
            + self.workflow.len()
            + self.api.len()
            + self.marketplace.len()
            + self.subscription.len()
            + self.payment.len()
            + self.price.len()
            + self.cost.len()
            + self.storage.len()
            + self.incident.len()
            + self.identity.len()
    }
}

#[derive(Debug, Clone, Copy)]
struct User {
    joined: u32,
    /// Of 100 days, those on which this one works.
    diligence: u64,
    /// Works signed out on the first day, and signs in at its end.
    anonymous: bool,
}

/// The platform, on its way through the days.
#[derive(Debug)]
pub struct World {
    shape: Shape,
    random: Random,
    users: Vec<User>,
    billing: Billing,
    next_day: u32,
    events: u64,
    /// What is true of the days made so far.
    pub truth: Truth,
}

impl World {
    /// The platform before its first day.
    pub fn new(shape: Shape) -> Self {
        let mut random = Random::new(shape.seed);
        let users = (0..shape.users).map(|number| User {
            // The first of an account, who makes it, is there before the others.
            joined: match random.below(100) {
                0..60 => 0,
                _ => random.below(u64::from(shape.days.max(1))) as u32,
            },
            diligence: 10 + random.below(75),
            anonymous: number % 9 == 4,
        });
        let users: Vec<User> = users.collect();
        let billing = Billing::new(shape.seed, shape.users.div_ceil(ACCOUNT_USERS));
        Self { shape, random, users, billing, next_day: 0, events: 0, truth: Truth::new(shape) }
    }

    /// The next day; `None` at the end.
    pub fn next_day(&mut self) -> Option<Day> {
        if self.next_day >= self.shape.days {
            return None;
        }
        let number = self.next_day;
        self.next_day += 1;
        let start = i64::from(self.shape.first_day) * DAY + i64::from(number) * DAY;
        let mut day = Day::default();
        self.truth.days.push(DayTruth::default());
        self.prices(number, start, &mut day);
        let there = self.users_joined(number);
        self.billing.day(start, &there, &mut day, &mut self.truth);
        for user in 0..self.shape.users {
            self.user_day(user, number, start, &mut day);
        }
        self.platform(number, start, &mut day);
        sort(&mut day);
        Some(day)
    }

    /// Accounts that some user of theirs has joined by the end of a day.
    fn users_joined(&self, number: u32) -> Vec<bool> {
        let accounts = self.users.chunks(ACCOUNT_USERS as usize);
        accounts.map(|users| users.iter().any(|user| user.joined <= number)).collect()
    }

    fn id(&mut self) -> String {
        self.events += 1;
        format!("{:x}-{:x}", self.shape.seed, self.events)
    }

    fn prices(&mut self, number: u32, start: EventTime, day: &mut Day) {
        let later = match number {
            0 => 0,
            n if n == self.shape.days / 2 => 1,
            _ => return,
        };
        for (model, prices) in MODELS {
            let Some((input, output)) = prices.get(later).copied() else { continue };
            day.price.push(PriceEvent {
                event_id: self.id(),
                // The change comes at noon.
                event_time: timestamp(start + later as i64 * DAY / 2),
                name: "priced".to_string(),
                model: model.to_string(),
                input_usd_per_million: Some(input),
                output_usd_per_million: Some(output),
                ..PriceEvent::default()
            });
        }
    }

    fn user_day(&mut self, user: u32, number: u32, start: EventTime, day: &mut Day) {
        let Some(who) = self.users.get(user as usize).copied() else { return };
        let weekend = (self.shape.first_day + number as i32 + 3).rem_euclid(7) >= 5;
        let works = who.joined == number
            || who.joined < number && self.random.chance(if weekend { who.diligence / 4 } else { who.diligence });
        if !works {
            return;
        }
        self.truth.was_active(user);
        let signed_out = who.anonymous && who.joined == number;
        let tier = self.billing.tier(user / ACCOUNT_USERS);
        let count = 1 + self.random.below(2 * u64::from(self.shape.events_per_user.max(1)));
        // One to three sittings a day.
        let sittings: Vec<i64> =
            (0..1 + self.random.below(3)).map(|_| self.random.between(WORK.0, WORK.1 - SITTING_MS)).collect();
        let mut times: Vec<EventTime> = (0..count)
            .map(|_| {
                let sitting =
                    sittings.get(self.random.below(sittings.len() as u64) as usize).copied().unwrap_or(WORK.0);
                start + (sitting + self.random.between(0, SITTING_MS)) * MILLISECOND
            })
            .collect();
        times.sort_unstable();
        for (index, time) in times.iter().copied().enumerate() {
            // The first is one that makes the day an active one.
            match if index == 0 { 0 } else { self.random.below(100) } {
                0..70 => self.editor_event(user, tier, signed_out, time, index == 0, day),
                70..79 if !signed_out => self.execution(user, tier, time, day),
                70..96 => self.request(user, tier, number, time, day),
                96..98 if !signed_out => self.workflow_run(user, tier, time, day),
                _ if !signed_out => self.visit(user, tier, number, time, day),
                _ => {}
            }
        }
        if signed_out {
            let time = times.last().copied().unwrap_or(start) + SECOND;
            day.identity.push(IdentityEvent {
                event_id: self.id(),
                event_time: timestamp(time),
                user_id: user_id(user),
                anonymous_id: format!("install-{user:05}"),
                name: "identified".to_string(),
                ..IdentityEvent::default()
            });
        }
    }

    fn editor_event(&mut self, user: u32, tier: &str, signed_out: bool, time: EventTime, counts: bool, day: &mut Day) {
        let heartbeat = !counts && self.random.chance(15);
        let name = if heartbeat { "heartbeat" } else { self.random.pick(&FEATURES) };
        if !heartbeat {
            self.truth.used(user, name, 1);
        }
        day.ide.push(IdeEvent {
            event_id: self.id(),
            event_time: timestamp(time),
            user_id: if signed_out { String::new() } else { user_id(user) },
            anonymous_id: if signed_out { format!("install-{user:05}") } else { String::new() },
            account_id: account_id(user / ACCOUNT_USERS),
            name: name.to_string(),
            language: self.random.pick(&LANGUAGES).to_string(),
            editor: EDITORS.get((user % 3) as usize).copied().unwrap_or_default().to_string(),
            tier: tier.to_string(),
            country: country(user),
            ..IdeEvent::default()
        });
    }

    fn execution(&mut self, user: u32, tier: &str, time: EventTime, day: &mut Day) {
        let agent = self.random.below(AGENTS).min(self.random.below(AGENTS)) + 1;
        let (status, class) = match self.random.below(100) {
            0..88 => (Status::Ok, ""),
            88..92 => (Status::Error, "tool_failed"),
            92..94 => (Status::Error, "rate_limited"),
            94..97 => (Status::Timeout, ""),
            _ => (Status::Cancelled, ""),
        };
        let model = self.random.below(MODELS.len() as u64) as usize;
        let (input, output) = (self.random.between(400, 30_000), self.random.between(20, 2_500));
        let Some((model, prices)) = MODELS.get(model) else { return };
        let half = i64::from(self.shape.first_day) * DAY + i64::from(self.shape.days / 2) * DAY + DAY / 2;
        let price = prices.get(usize::from(time >= half && self.shape.days > 1)).copied().unwrap_or_default();
        let duration_ms = 200.0 + self.random.exponential(9_000.0).floor();
        self.truth.execution(user, agent, status, class, (input, output), price, duration_ms);
        day.agent.push(AgentEvent {
            event_id: self.id(),
            event_time: timestamp(time),
            user_id: user_id(user),
            account_id: account_id(user / ACCOUNT_USERS),
            name: "run".to_string(),
            agent: format!("agent-{agent:02}"),
            agent_version: "1.0".to_string(),
            model: (*model).to_string(),
            tokens_input: Some(input),
            tokens_output: Some(output),
            cost_usd: Some((input * 3 + output * 15) as f64 / 1e6),
            duration_ms: Some(duration_ms),
            status: status.into(),
            error_class: class.to_string(),
            tier: tier.to_string(),
            country: country(user),
            ..AgentEvent::default()
        });
    }

    fn request(&mut self, user: u32, tier: &str, number: u32, time: EventTime, day: &mut Day) {
        let route = self.random.below(ROUTES.len() as u64) as usize;
        let Some((method, route, mean_ms)) = ROUTES.get(route).copied() else { return };
        // One day in twenty the checkout is ill for two hours.
        let hour = time.rem_euclid(DAY) / (3_600 * SECOND);
        let ill = number % 20 == 7 && route == "/v1/billing/checkout" && (14..16).contains(&hour);
        let status_code = match self.random.below(1_000) {
            _ if ill && self.random.chance(60) => 503,
            0..4 => 500,
            4..40 => 404,
            _ => 200,
        };
        let latency_ms = ((self.random.exponential(mean_ms) * 1e3).floor() + 500.0) / 1e3;
        self.truth.request(route, status_code, latency_ms);
        day.api.push(ApiEvent {
            event_id: self.id(),
            event_time: timestamp(time),
            user_id: user_id(user),
            account_id: account_id(user / ACCOUNT_USERS),
            route: route.to_string(),
            method: method.to_string(),
            status_code: Some(status_code),
            latency_ms: Some(latency_ms),
            service: "api".to_string(),
            tier: tier.to_string(),
            country: country(user),
            ..ApiEvent::default()
        });
    }

    fn workflow_run(&mut self, user: u32, tier: &str, time: EventTime, day: &mut Day) {
        self.truth.used(user, "workflow run", 1);
        day.workflow.push(WorkflowEvent {
            event_id: self.id(),
            event_time: timestamp(time),
            user_id: user_id(user),
            account_id: account_id(user / ACCOUNT_USERS),
            name: "run_started".to_string(),
            workflow: format!("workflow-{:02}", user % 12),
            run_id: format!("run-{}", self.events),
            status: Status::Started.into(),
            tier: tier.to_string(),
            ..WorkflowEvent::default()
        });
    }

    fn visit(&mut self, user: u32, tier: &str, number: u32, time: EventTime, day: &mut Day) {
        let name = self.random.pick(&["viewed", "searched", "installed", "reviewed"]);
        let wanted = number >= self.shape.days - self.shape.days / 4 && self.random.chance(35);
        let name = if wanted { "installed" } else { name };
        let agent = if wanted { RISING } else { self.random.below(AGENTS) + 1 };
        if name == "installed" {
            self.truth.installed(user / ACCOUNT_USERS, agent, time);
        }
        let rating = (name == "reviewed").then(|| self.random.between(1, 6));
        let agent = if name == "searched" { 0 } else { agent };
        self.market_event(user, tier, (name, agent), (rating, None), time, day);
        // One install in three is of a paid version, and of five buyers one wants the money back.
        let number = u64::from(user) + agent;
        if name == "installed" && number.is_multiple_of(3) {
            let cents = agent as i64 * 100 - 1;
            self.market_event(user, tier, ("purchased", agent), (None, Some(cents)), time + SECOND, day);
            if number.is_multiple_of(15) {
                let later = time + 1_800 * SECOND;
                self.market_event(user, tier, ("refunded", agent), (None, Some(-cents)), later, day);
            }
        }
    }

    fn market_event(
        &mut self,
        user: u32,
        tier: &str,
        (name, agent): (&str, u64),
        (rating, cents): (Option<i64>, Option<i64>),
        time: EventTime,
        day: &mut Day,
    ) {
        self.truth.used(user, &format!("marketplace {name}"), 1);
        self.truth.market(name, rating, cents);
        day.marketplace.push(MarketplaceEvent {
            event_id: self.id(),
            event_time: timestamp(time),
            user_id: user_id(user),
            account_id: account_id(user / ACCOUNT_USERS),
            name: name.to_string(),
            agent: if agent == 0 { String::new() } else { format!("agent-{agent:02}") },
            rating,
            price_usd: cents.map(|cents| cents as f64 / 100.0),
            tier: tier.to_string(),
            country: country(user),
            ..MarketplaceEvent::default()
        });
    }

    /// Bills, disks and incidents.
    fn platform(&mut self, number: u32, start: EventTime, day: &mut Day) {
        for (service, usd) in SERVICES {
            let cents = (usd * 100.0) as i64 + self.random.between(-200, 200);
            self.truth.cost_micros(cents * 10_000);
            day.cost.push(CostEvent {
                event_id: self.id(),
                event_time: timestamp(start),
                name: "billed".to_string(),
                charge_period_end: timestamp(start + DAY),
                service_name: service.to_string(),
                charge_category: "usage".to_string(),
                billed_cost_usd: Some(cents as f64 / 100.0),
                effective_cost_usd: Some(cents as f64 / 100.0),
                list_cost_usd: Some(cents as f64 / 80.0),
                // A quarter of the database is used by one agent alone; compute is half idle.
                owner: if service == "database" { "agent-01" } else { "" }.to_string(),
                idle_share: (service == "compute").then_some(0.5),
                ..CostEvent::default()
            });
        }
        // Grows by a gigabyte a day.
        day.storage.push(StorageEvent {
            event_id: self.id(),
            event_time: timestamp(start + DAY / 2),
            name: "sampled".to_string(),
            store: "lake".to_string(),
            live_bytes: Some((50 + i64::from(number)) * 1_000_000_000),
            unreferenced_bytes: Some(2_000_000_000),
            capacity_bytes: Some(500_000_000_000),
            ..StorageEvent::default()
        });
        if number % 20 == 7 {
            for (name, hours) in [("opened", 14), ("resolved", 16)] {
                day.incident.push(IncidentEvent {
                    event_id: self.id(),
                    event_time: timestamp(start + hours * 3_600 * SECOND),
                    name: name.to_string(),
                    incident_id: format!("incident-{number}"),
                    severity: "sev2".to_string(),
                    service: "api".to_string(),
                    title: "checkout fails".to_string(),
                    ..IncidentEvent::default()
                });
            }
            self.truth.incidents += 1;
        }
    }
}

/// The name of a user.
pub fn user_id(user: u32) -> String {
    format!("user-{user:05}")
}

/// The name of an account.
pub fn account_id(account: u32) -> String {
    format!("account-{account:04}")
}

/// Where a user lives.
pub fn country(user: u32) -> String {
    COUNTRIES.get((user.wrapping_mul(7) % COUNTRIES.len() as u32) as usize).copied().unwrap_or_default().to_string()
}

fn sort(day: &mut Day) {
    macro_rules! by_time {
        ($($table:ident),*) => {
            $(day.$table.sort_by_key(|e| e.event_time.as_ref().map(|t| (t.seconds, t.nanos)));)*
        };
    }
    by_time!(ide, agent, workflow, api, marketplace, subscription, payment, price, cost, storage, incident, identity);
}

/// Counts by name: how a truth is told.
pub type Counts = BTreeMap<String, u64>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_platform() {
        let shape = Shape { seed: 7, users: 40, first_day: 20_000, days: 30, events_per_user: 6 };
        let all = |shape| {
            let mut world = World::new(shape);
            let mut days = Vec::new();
            while let Some(day) = world.next_day() {
                days.push(format!("{day:?}"));
            }
            (days, format!("{:?}", world.truth))
        };
        assert_eq!(all(shape), all(shape));
        assert_ne!(all(shape).1, all(Shape { seed: 8, ..shape }).1);
    }
}
