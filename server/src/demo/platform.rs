//! A small platform that does not exist: one day of its events, the same on every run, and the truth about them.
//!
//! The events come as real clients send them: up to 45 seconds out of order, some twice, some without a time, some hours
//! late. The truth is counted here, from the events alone, and knows nothing of the engine.

use std::collections::{BTreeMap, BTreeSet};

use millstream::time::{DAY, EventTime, SECOND};
use millstream_proto::v1::{AgentEvent, ApiEvent, IdeEvent, MarketplaceEvent, Status, WorkflowEvent};

use super::random::Random;
use super::stream::{Manner, Stream, Typed, timestamp};

/// The day: 2026-03-14, in days since the epoch.
pub const DAY_NUMBER: i32 = 20_526;

const SEED: u64 = 20_260_314;

const MILLISECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;

/// Less than the minute by which the sources let events be out of order.
const DISORDER_MS_MAX: i64 = 45_000;

/// The longest silence within a session, exclusive: as in pipelines/user_sessions.sql.
const SESSION_GAP: i64 = 30 * MINUTE;

/// Agent events that were made offline and arrive when the day is long over.
const LATE_EVENTS: i64 = 25;

/// Events without a time, which are refused.
const BROKEN_EVENTS: usize = 3;

const MODELS: [&str; 4] = ["sonnet-4", "gpt-5-mini", "haiku-4", "qwen-3"];
const TIERS: [&str; 4] = ["free", "pro", "team", "enterprise"];
const COUNTRIES: [&str; 6] = ["DE", "US", "IN", "BR", "JP", "FR"];
const EDITORS: [&str; 3] = ["vscode", "jetbrains", "neovim"];
const LANGUAGES: [&str; 5] = ["rust", "typescript", "python", "sql", "go"];
const ACTIONS: [&str; 6] =
    ["file_edited", "completion_accepted", "file_opened", "agent_asked", "tests_run", "command_run"];
const ROUTES: [(&str, &str, f64); 8] = [
    ("GET", "/v1/agents", 18.0),
    ("POST", "/v1/agents/{id}/runs", 95.0),
    ("GET", "/v1/runs/{id}", 12.0),
    ("GET", "/v1/runs/{id}/log", 40.0),
    ("GET", "/v1/marketplace/search", 60.0),
    ("POST", "/v1/workflows/{id}/runs", 70.0),
    ("GET", "/v1/users/me", 6.0),
    ("POST", "/v1/billing/checkout", 210.0),
];

/// How much happens on the day.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// People.
    pub users: u64,
    /// Agents.
    pub agents: u64,
    /// Executions of agents.
    pub agent_runs: u64,
    /// Requests to the API.
    pub requests: u64,
    /// Runs of workflows.
    pub workflow_runs: u64,
    /// Events of the marketplace.
    pub marketplace_events: u64,
}

impl Size {
    /// What `millstream demo` shows.
    pub const FULL: Self = Self {
        users: 200,
        agents: 20,
        agent_runs: 4_000,
        requests: 20_000,
        workflow_runs: 600,
        marketplace_events: 1_500,
    };

    /// A tenth of it.
    pub const SMALL: Self =
        Self { users: 30, agents: 5, agent_runs: 300, requests: 1_500, workflow_runs: 60, marketplace_events: 700 };
}

/// Use of one agent, or of one agent and model within a minute. Cost in millionths of a dollar.
#[derive(Debug, Clone, Copy, Default)]
pub struct Use {
    /// Executions that ended.
    pub executions: u64,
    /// Those that ended well.
    pub successes: u64,
    /// Tokens read by the model.
    pub tokens_input: u64,
    /// Tokens written by the model.
    pub tokens_output: u64,
    /// Cost.
    pub cost_micros: u64,
}

/// What is true of the day, duplicates not counted.
#[derive(Debug, Default)]
pub struct Truth {
    /// Rows without a time.
    pub rejected: u64,
    /// Agent events that come too late for their minute.
    pub late: u64,
    /// By agent, late ones too.
    pub agents: BTreeMap<String, Use>,
    /// By minute (since the epoch), agent and model, without late ones.
    pub minutes: BTreeMap<(i64, String, String), Use>,
    /// Sessions in the editor, by [`SESSION_GAP`].
    pub sessions: u64,
    /// Users with an event other than a heartbeat or a request.
    pub active_users: u64,
    /// 10-second windows and routes with a request.
    pub api_windows: u64,
    /// The exact 95th percentile of all latencies, milliseconds.
    pub latency_p95_ms: f64,
}

/// One day.
#[derive(Debug)]
pub struct Platform {
    /// What is sent during the day, by many producers.
    pub streams: Vec<Stream>,
    /// What is sent when the day is over.
    pub late: Stream,
    /// The truth.
    pub truth: Truth,
}

struct Day {
    active: BTreeSet<u64>,
    random: Random,
    size: Size,
    truth: Truth,
    streams: Vec<Stream>,
}

/// Makes up the day.
pub fn day(size: Size) -> Platform {
    let mut day =
        Day { active: BTreeSet::new(), random: Random::new(SEED), size, truth: Truth::default(), streams: Vec::new() };
    day.editors();
    let late = day.agents();
    day.api();
    day.workflows();
    day.marketplace();
    day.truth.active_users = day.active.len() as u64;
    Platform { streams: day.streams, late, truth: day.truth }
}

fn start() -> EventTime {
    i64::from(DAY_NUMBER) * DAY
}

impl Day {
    /// A time between two hours of the day, to the millisecond.
    fn time(&mut self, from_hour: i64, to_hour: i64) -> EventTime {
        start() + self.random.between(from_hour * 3_600_000, to_hour * 3_600_000) * MILLISECOND
    }

    fn user(&mut self) -> u64 {
        // Some work much more than others.
        self.random.below(self.size.users).min(self.random.below(self.size.users))
    }

    fn tier(user: u64) -> String {
        let tier = match user % 10 {
            0..6 => 0,
            6..8 => 1,
            8 => 2,
            _ => 3,
        };
        TIERS.get(tier).copied().unwrap_or_default().to_string()
    }

    fn country(user: u64) -> String {
        COUNTRIES.get((user * 7 % COUNTRIES.len() as u64) as usize).copied().unwrap_or_default().to_string()
    }

    /// Shares events among producers and shuffles each one's as a network does.
    fn send<E: Typed>(&mut self, events: Vec<E>, producers: &[(&str, Manner)], broken: Vec<E>) {
        self.truth.rejected += broken.len() as u64;
        let mut shares: Vec<Vec<(EventTime, E)>> = producers.iter().map(|_| Vec::new()).collect();
        for (index, event) in events.into_iter().enumerate() {
            let sent_at = event.time().unwrap_or_default() + self.random.between(0, DISORDER_MS_MAX) * MILLISECOND;
            if let Some(share) = shares.get_mut(index % producers.len().max(1)) {
                share.push((sent_at, event));
            }
        }
        let mut broken = Some(broken);
        for ((name, manner), mut share) in producers.iter().zip(shares) {
            share.sort_by_key(|(sent_at, _)| *sent_at);
            let mut events: Vec<E> = share.into_iter().map(|(_, event)| event).collect();
            // The first producer's program has a bug.
            events.extend(broken.take().into_iter().flatten());
            self.streams.push(Stream::new(*name, *manner, events));
        }
    }

    fn editors(&mut self) {
        let mut events = Vec::new();
        let mut times = BTreeMap::<u64, Vec<EventTime>>::new();
        for user in 0..self.size.users {
            // Some are away, and some have only left their editor open.
            let (away, idle) = (self.random.chance(12), self.random.chance(6));
            for _ in 0..if away { 0 } else { self.random.between(1, 4) } {
                let mut time = self.time(6, 21);
                for _ in 0..self.random.between(8, 45) {
                    let name = if idle || self.random.chance(10) { "heartbeat" } else { self.random.pick(&ACTIONS) };
                    if name != "heartbeat" {
                        self.active.insert(user);
                    }
                    times.entry(user).or_default().push(time);
                    events.push(self.editor_event(events.len(), user, time, name));
                    time += (self.random.exponential(180_000.0) as i64 + 1) * MILLISECOND;
                    if time >= start() + 23 * 60 * MINUTE {
                        break;
                    }
                }
            }
        }
        for times in times.values_mut() {
            times.sort_unstable();
            let starts = times.windows(2).filter(|pair| matches!(pair, [a, b] if b - a >= SESSION_GAP)).count();
            self.truth.sessions += 1 + starts as u64;
        }
        let producers = [
            ("editor-gateway-1", Manner::Restarts),
            ("editor-gateway-2", Manner::Steady),
            ("editor-gateway-3", Manner::Steady),
        ];
        self.send(events, &producers, Vec::new());
    }

    fn editor_event(&mut self, number: usize, user: u64, time: EventTime, name: &str) -> IdeEvent {
        IdeEvent {
            event_id: format!("ide-{number}"),
            event_time: timestamp(time),
            user_id: format!("user-{user:03}"),
            account_id: format!("account-{:02}", user / 10),
            source_version: "1.8.0".to_string(),
            name: name.to_string(),
            language: self.random.pick(&LANGUAGES).to_string(),
            editor: EDITORS.get((user % 3) as usize).copied().unwrap_or_default().to_string(),
            tier: Self::tier(user),
            country: Self::country(user),
            ..IdeEvent::default()
        }
    }

    /// The day's executions; returns the late ones.
    fn agents(&mut self) -> Stream {
        let mut events = Vec::new();
        for run in 0..self.size.agent_runs {
            let time = self.time(0, 24);
            let end = self.execution(format!("run-{run}-end"), time);
            // The end is on the same day: what began in the last minutes ended at once.
            let began = time - end.duration_ms.unwrap_or_default() as i64 * MILLISECOND;
            let mut start_event = end.clone();
            start_event.event_id = format!("run-{run}-start");
            start_event.event_time = timestamp(began.max(start()));
            start_event.status = Status::Started.into();
            (start_event.tokens_input, start_event.tokens_output) = (None, None);
            (start_event.cost_usd, start_event.duration_ms) = (None, None);
            start_event.error_class = String::new();
            self.count(&end, false);
            events.extend([start_event, end]);
        }
        let broken = (0..BROKEN_EVENTS).map(|number| AgentEvent {
            event_id: format!("broken-{number}"),
            agent: "agent-01".to_string(),
            status: Status::Ok.into(),
            ..AgentEvent::default()
        });
        let broken = broken.collect();
        let producers = [
            ("agent-runner-1", Manner::Steady),
            ("agent-runner-2", Manner::Restarts),
            ("agent-runner-3", Manner::Steady),
        ];
        self.send(events, &producers, broken);
        let mut late = Vec::new();
        for number in 0..LATE_EVENTS {
            let time = start() + 9 * 60 * MINUTE + number * 97 * SECOND;
            let event = self.execution(format!("offline-{number}"), time);
            self.count(&event, true);
            late.push(event);
        }
        self.truth.late = late.len() as u64;
        Stream::new("laptop-offline", Manner::Steady, late)
    }

    fn execution(&mut self, id: String, time: EventTime) -> AgentEvent {
        let user = self.user();
        self.active.insert(user);
        let agent = self.random.below(self.size.agents).min(self.random.below(self.size.agents)) + 1;
        let status = match self.random.below(100) {
            0..89 => Status::Ok,
            89..95 => Status::Error,
            95..97 => Status::Timeout,
            _ => Status::Cancelled,
        };
        let tokens_input = self.random.between(400, 30_000);
        let tokens_output = self.random.between(20, 2_500);
        let cost_micros = tokens_input * 3 + tokens_output * 15;
        AgentEvent {
            event_id: id,
            event_time: timestamp(time),
            user_id: format!("user-{user:03}"),
            account_id: format!("account-{:02}", user / 10),
            name: "run".to_string(),
            agent: format!("agent-{agent:02}"),
            agent_version: format!("1.{}", agent % 4),
            model: self.random.pick(&MODELS).to_string(),
            tokens_input: Some(tokens_input),
            tokens_output: Some(tokens_output),
            cost_usd: Some(cost_micros as f64 / 1e6),
            duration_ms: Some(200.0 + self.random.exponential(9_000.0).floor()),
            status: status.into(),
            error_class: if status == Status::Error { "tool_failed" } else { "" }.to_string(),
            tier: Self::tier(user),
            country: Self::country(user),
            ..AgentEvent::default()
        }
    }

    fn count(&mut self, end: &AgentEvent, late: bool) {
        let tokens = |tokens: Option<i64>| tokens.unwrap_or_default().unsigned_abs();
        let add = |used: &mut Use| {
            used.executions += 1;
            used.successes += u64::from(end.status == i32::from(Status::Ok));
            used.tokens_input += tokens(end.tokens_input);
            used.tokens_output += tokens(end.tokens_output);
            used.cost_micros += (end.cost_usd.unwrap_or_default() * 1e6).round() as u64;
        };
        add(self.truth.agents.entry(end.agent.clone()).or_default());
        if !late {
            let minute = end.time().unwrap_or_default().div_euclid(MINUTE);
            add(self.truth.minutes.entry((minute, end.agent.clone(), end.model.clone())).or_default());
        }
    }

    fn api(&mut self) {
        let mut events = Vec::new();
        let (mut latencies, mut windows) = (Vec::new(), BTreeSet::new());
        for number in 0..self.size.requests {
            // Most requests come in working hours.
            let time = if self.random.chance(75) { self.time(7, 19) } else { self.time(0, 24) };
            let route = self.random.below(ROUTES.len() as u64).min(self.random.below(ROUTES.len() as u64));
            let Some((method, pattern, mean_ms)) = ROUTES.get(route as usize) else { continue };
            // Twenty bad minutes.
            let minute = time.rem_euclid(DAY) / MINUTE;
            let bad = route == 1 && (14 * 60..14 * 60 + 20).contains(&minute);
            let mean_ms = if bad { mean_ms * 9.0 } else { *mean_ms };
            let micros = (self.random.exponential(mean_ms) * 1e3).floor() + 500.0;
            let status_code = match self.random.below(1_000) {
                0..4 => 500,
                4..30 => 404,
                30..40 => 429,
                _ if bad && self.random.chance(30) => 503,
                _ => 200,
            };
            let user = self.user();
            latencies.push(micros / 1e3);
            windows.insert((time.div_euclid(10 * SECOND), route));
            events.push(ApiEvent {
                event_id: format!("api-{number}"),
                event_time: timestamp(time),
                user_id: format!("user-{user:03}"),
                account_id: format!("account-{:02}", user / 10),
                route: (*pattern).to_string(),
                method: (*method).to_string(),
                status_code: Some(status_code),
                latency_ms: Some(micros / 1e3),
                service: "api".to_string(),
                tier: Self::tier(user),
                country: Self::country(user),
                ..ApiEvent::default()
            });
        }
        latencies.sort_by(f64::total_cmp);
        let at = (0.95 * latencies.len() as f64).ceil() as usize;
        self.truth.latency_p95_ms = latencies.get(at.saturating_sub(1)).copied().unwrap_or_default();
        self.truth.api_windows = windows.len() as u64;
        let producers =
            [("api-server-1", Manner::Steady), ("api-server-2", Manner::Restarts), ("api-server-3", Manner::Steady)];
        self.send(events, &producers, Vec::new());
    }

    fn workflows(&mut self) {
        let mut events = Vec::new();
        for run in 0..self.size.workflow_runs {
            let mut time = self.time(0, 23);
            let user = self.user();
            self.active.insert(user);
            let steps = self.random.between(2, 6);
            for step in 0..=steps {
                let name = match step {
                    0 => "run_started",
                    s if s == steps => "run_finished",
                    _ => "step_finished",
                };
                let ok = if self.random.chance(95) { Status::Ok } else { Status::Error };
                events.push(WorkflowEvent {
                    event_id: format!("workflow-{run}-{step}"),
                    event_time: timestamp(time),
                    user_id: format!("user-{user:03}"),
                    account_id: format!("account-{:02}", user / 10),
                    name: name.to_string(),
                    workflow: format!("workflow-{:02}", run % 12),
                    run_id: format!("run-{run}"),
                    step: if name == "step_finished" { format!("step-{step}") } else { String::new() },
                    status: if step == 0 { Status::Started } else { ok }.into(),
                    tier: Self::tier(user),
                    ..WorkflowEvent::default()
                });
                time += self.random.between(500, 240_000) * MILLISECOND;
            }
        }
        self.send(
            events,
            &[("workflow-runner-1", Manner::Restarts), ("workflow-runner-2", Manner::Steady)],
            Vec::new(),
        );
    }

    fn marketplace(&mut self) {
        let mut events = Vec::new();
        for number in 0..self.size.marketplace_events {
            let time = self.time(6, 24);
            let user = self.user();
            self.active.insert(user);
            let name = self.random.pick(&["viewed", "searched", "installed", "reviewed", "uninstalled"]);
            let agent = self.random.below(self.size.agents) + 1;
            events.push(MarketplaceEvent {
                event_id: format!("market-{number}"),
                event_time: timestamp(time),
                user_id: format!("user-{user:03}"),
                name: name.to_string(),
                agent: if name == "searched" { String::new() } else { format!("agent-{agent:02}") },
                search_text: if name == "searched" { "review my pull request" } else { "" }.to_string(),
                rating: (name == "reviewed").then(|| self.random.between(1, 6)),
                tier: Self::tier(user),
                country: Self::country(user),
                ..MarketplaceEvent::default()
            });
        }
        self.send(events, &[("marketplace-web", Manner::Unnumbered)], Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::show_day;

    #[test]
    fn the_day_is_the_same_on_every_run() {
        assert_eq!(show_day(DAY_NUMBER), "2026-03-14");
        let (a, b) = (day(Size::SMALL), day(Size::SMALL));
        assert_eq!(format!("{:?}", a.truth), format!("{:?}", b.truth));
        assert_eq!(format!("{:?}", a.streams), format!("{:?}", b.streams));
        assert!(a.streams.iter().any(|s| s.resent() > 0) && a.truth.rejected > 0 && a.truth.late > 0);
        assert!(a.truth.sessions > a.truth.active_users, "some come back");
    }
}
