//! What is true of a made-up platform, per UTC day: counted as it is made up.

use std::collections::{BTreeMap, BTreeSet};

use millstream::time::EventTime;
use millstream_proto::v1::Status;

use super::billing::Kind;
use super::{Counts, Shape};

/// Changes of monthly recurring revenue by kind, in millionths of a cent.
pub type Movements = BTreeMap<Kind, i64>;

/// One day. Pairs are US dollars and euros.
#[derive(Debug, Clone, Default)]
pub struct DayTruth {
    /// Users with an event that counts.
    pub active: BTreeSet<u32>,
    /// Uses by user and feature.
    pub uses: BTreeMap<(u32, String), u64>,
    /// Executions by status.
    pub executions: Counts,
    /// Failures by class.
    pub failures: Counts,
    /// Executions by agent.
    pub agents: Counts,
    /// Users by agent.
    pub agent_users: BTreeMap<u64, BTreeSet<u32>>,
    /// Tokens in and out.
    pub tokens: (u64, u64),
    /// The producers' cost, millionths of a dollar.
    pub cost_micros: u64,
    /// Cost at the list price valid then, US dollars.
    pub cost_list_usd: f64,
    /// How long executions took.
    pub durations_ms: Vec<f64>,
    /// Latencies by route.
    pub latencies_ms: BTreeMap<String, Vec<f64>>,
    /// Requests by status code.
    pub requests: BTreeMap<i64, u64>,
    /// Accounts that installed an agent, and when first.
    pub installs: BTreeMap<(u64, u32), EventTime>,
    /// What happened in the marketplace, by name.
    pub market: Counts,
    /// Stars given, and how many reviews gave them.
    pub stars: (i64, u64),
    /// What was paid for agents less what was given back, cents.
    pub sales_cents: i64,
    /// Plan of each account that is there, and its recurring revenue in millionths of a cent, at the day's end.
    pub accounts: BTreeMap<u32, (&'static str, i64)>,
    /// Changes of recurring revenue.
    pub movements: [Movements; 2],
    /// Recurring revenue at the day's end, millionths of a cent, and who pays it.
    pub mrr: [(i64, u64); 2],
    /// Accounts on free, team and enterprise at the day's end.
    pub tiers: [u64; 3],
    /// Payments and refunds, cents, with their accounts.
    pub payments: [Vec<(u32, i64)>; 2],
    /// What infrastructure cost, millionths of a dollar.
    pub infra_micros: i64,
}

/// All days.
#[derive(Debug, Clone)]
pub struct Truth {
    /// What was made up.
    pub shape: Shape,
    /// Day by day.
    pub days: Vec<DayTruth>,
    /// Incidents that were reported.
    pub incidents: u64,
}

impl Truth {
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, days: Vec::new(), incidents: 0 }
    }

    fn with(&mut self, change: impl FnOnce(&mut DayTruth)) {
        if let Some(day) = self.days.last_mut() {
            change(day);
        }
    }

    pub(super) fn was_active(&mut self, user: u32) {
        self.with(|day| {
            day.active.insert(user);
        });
    }

    pub(super) fn used(&mut self, user: u32, feature: &str, uses: u64) {
        self.with(|day| *day.uses.entry((user, feature.to_string())).or_default() += uses);
    }

    #[expect(clippy::too_many_arguments, reason = "each is one fact of an execution")]
    pub(super) fn execution(
        &mut self,
        user: u32,
        agent: u64,
        status: Status,
        class: &str,
        tokens: (i64, i64),
        price: (f64, f64),
        duration_ms: f64,
    ) {
        self.used(user, "agent run", 1);
        let name = match status {
            Status::Ok => "ok",
            Status::Error => "error",
            Status::Timeout => "timeout",
            _ => "cancelled",
        };
        self.with(|day| {
            *day.executions.entry(name.to_string()).or_default() += 1;
            if matches!(status, Status::Error | Status::Timeout) {
                let class = if class.is_empty() { "timeout" } else { class };
                *day.failures.entry(class.to_string()).or_default() += 1;
            }
            *day.agents.entry(format!("agent-{agent:02}")).or_default() += 1;
            day.agent_users.entry(agent).or_default().insert(user);
            day.tokens.0 += tokens.0.unsigned_abs();
            day.tokens.1 += tokens.1.unsigned_abs();
            day.cost_micros += (tokens.0 * 3 + tokens.1 * 15).unsigned_abs();
            day.cost_list_usd += (tokens.0 as f64 * price.0 + tokens.1 as f64 * price.1) / 1e6;
            day.durations_ms.push(duration_ms);
        });
    }

    pub(super) fn request(&mut self, route: &str, status_code: i64, latency_ms: f64) {
        self.with(|day| {
            *day.requests.entry(status_code).or_default() += 1;
            day.latencies_ms.entry(route.to_string()).or_default().push(latency_ms);
        });
    }

    pub(super) fn installed(&mut self, account: u32, agent: u64, time: EventTime) {
        self.with(|day| {
            let first = day.installs.entry((agent, account)).or_insert(time);
            *first = (*first).min(time);
        });
    }

    pub(super) fn market(&mut self, name: &str, stars: Option<i64>, cents: Option<i64>) {
        self.with(|day| {
            *day.market.entry(name.to_string()).or_default() += 1;
            if let Some(stars) = stars {
                day.stars = (day.stars.0 + stars, day.stars.1 + 1);
            }
            day.sales_cents += cents.unwrap_or(0);
        });
    }

    pub(super) fn accounts(&mut self, accounts: BTreeMap<u32, (&'static str, i64)>) {
        self.with(|day| day.accounts = accounts);
    }

    pub(super) fn movement(&mut self, euro: bool, kind: Kind, micros: i64) {
        self.with(|day| {
            if let Some(movements) = day.movements.get_mut(usize::from(euro)) {
                *movements.entry(kind).or_default() += micros;
            }
        });
    }

    pub(super) fn mrr(&mut self, mrr: [(i64, u64); 2]) {
        self.with(|day| day.mrr = mrr);
    }

    pub(super) fn tiers(&mut self, tiers: [u64; 3]) {
        self.with(|day| day.tiers = tiers);
    }

    pub(super) fn payment(&mut self, euro: bool, account: u32, minor: i64) {
        self.with(|day| {
            if let Some(payments) = day.payments.get_mut(usize::from(euro)) {
                payments.push((account, minor));
            }
        });
    }

    pub(super) fn cost_micros(&mut self, micros: i64) {
        self.with(|day| day.infra_micros += micros);
    }

    /// Users active on some of the days `from..to`.
    pub fn active_users(&self, from: usize, to: usize) -> BTreeSet<u32> {
        let days = self.days.get(from..to.min(self.days.len())).unwrap_or_default();
        days.iter().flat_map(|day| day.active.iter().copied()).collect()
    }
}
