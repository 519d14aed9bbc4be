//! Publishers, moderators and consumers of the sample, and what they do in a week.

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::agents::AGENTS;
use super::real::{Real, category_of};
use super::sales::Till;
use crate::accounts::{Account, Caller, by_handle};
use crate::app::App;
use crate::catalogue::agent::become_publisher;
use crate::catalogue::collection::{self, NewCollection, NewItem};
use crate::clock::{Clock, DAY_MS, rfc3339};
use crate::db;
use crate::events::Event;
use crate::installs::{Installed, Wanted, install, list, one, rollback, uninstall};
use crate::problem::{Problem, Result};
use crate::publish::{Decision, decide_unlisted, submit, waiting};
use crate::reviews::{self, NewReview};
use crate::sandbox::Sandbox;
use crate::search::Query;

const PUBLISHERS: [&str; 6] = ["north-tools", "river-labs", "open-bench", "clear-stack", "plain-data", "blue-kiln"];
/// One of the publishers, who sells.
pub const SELLER: &str = PUBLISHERS[1];
const CONSUMERS: usize = 240;
const ACTIONS_PER_DAY: usize = 260;

/// Whose the entries of a real catalogue are here.
const REAL_PUBLISHER: &str = "editor-plugins";
/// Between two uploads.
const UPLOAD_MS: i64 = 20_000;

const WORDS: [&str; 12] = [
    "review",
    "tests",
    "sql",
    "slow query",
    "release notes",
    "secrets",
    "licence",
    "forecast",
    "ui contrast",
    "flaky",
    "migratons",
    "paper",
];

const OPINIONS: [&[&str]; 5] = [
    &["It stopped half way and left files behind."],
    &["Right half of the time.", "Too slow for us."],
    &["Does the simple cases well."],
    &["Saves an hour a week.", "Good, though the first run takes a while."],
    &["Does what it says.", "The team keeps it.", "It found what three of us had missed."],
];

/// A small generator: the same sample every time.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n.max(1)
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }
}

/// How long the sample's publishers take, with so many real entries.
pub fn publishing_ms(real: usize) -> i64 {
    UPLOAD_MS * (AGENTS.len() * 5 / 2 + real) as i64
}

/// Fills an empty marketplace whose clock is `clock`, set to the beginning of the week, and that sells over `sandbox`; gives what
/// the agents did meanwhile where they are installed, as events of theirs.
pub async fn fill(app: &App, clock: &Clock, sandbox: &Sandbox, real: &[Real]) -> Result<Vec<Value>> {
    let mut random = Random(20_260_301);
    let moderator = local(app, "market-team", "moderator").await?;
    let mut publishers = Vec::new();
    for handle in PUBLISHERS {
        let caller = local(app, handle, "publisher").await?;
        become_publisher(app, &caller).await?;
        publishers.push(caller);
    }
    for (index, agent) in AGENTS.iter().enumerate() {
        let Some(publisher) = publishers.get(index % PUBLISHERS.len()) else { continue };
        for version in ["1.0.0", "1.1.0", "1.2.0-beta.1"].iter().take(2 + index % 2) {
            submit(app, publisher, package(&publisher.account.handle, agent, version)?).await?;
            clock.advance(UPLOAD_MS);
        }
    }
    let names = publish_real(app, clock, real).await?;
    approve_all(app, &moderator).await?;
    collections(app, &moderator).await?;
    let till = Till { app, sandbox };
    till.open(&publishers).await?;
    let mut consumers = Vec::new();
    for i in 0..CONSUMERS {
        consumers.push(local(app, &format!("consumer-{i:03}"), "consumer").await?);
    }
    let mut runs = Vec::new();
    for action in 0..7 * ACTIONS_PER_DAY {
        clock.advance(DAY_MS / ACTIONS_PER_DAY as i64);
        if let Some(consumer) = random.of(&consumers) {
            act(&till, consumer, &names, &mut random, &mut runs).await?;
        }
        // Two teams a day.
        if action % (ACTIONS_PER_DAY / 2) == 0
            && let Some(lead) = consumers.get(action / (ACTIONS_PER_DAY / 2))
        {
            till.seats(lead, 2 + random.below(9) as i64).await?;
        }
    }
    till.pay_out(&publishers).await?;
    app.views.flush(&app.db).await?;
    app.catalogue.refresh().await?;
    Ok(runs)
}

async fn approve_all(app: &App, moderator: &Caller) -> Result<()> {
    let approve = Decision { approve: true, reason: "Read and tried.".to_string() };
    loop {
        let some = waiting(app, moderator).await?;
        if some.is_empty() {
            app.catalogue.refresh().await?;
            return Ok(());
        }
        for waiting in some {
            decide_unlisted(app, moderator, &waiting.id, &approve).await?;
        }
    }
}

/// Sends in the entries of a real catalogue; gives their names, after those of the sample.
async fn publish_real(app: &App, clock: &Clock, real: &[Real]) -> Result<Vec<String>> {
    let mut names: Vec<String> = AGENTS.iter().map(|a| a.0.to_string()).collect();
    if real.is_empty() {
        return Ok(names);
    }
    let publisher = local(app, REAL_PUBLISHER, "publisher").await?;
    become_publisher(app, &publisher).await?;
    for entry in real {
        let fit = |text: &str, max: usize| {
            let plain: String = text.chars().filter(|c| !c.is_control()).take(max).collect();
            plain.trim().to_string()
        };
        let (title, mut summary) = (fit(&entry.name, 80), fit(&entry.description, 200));
        if summary.chars().count() < 10 {
            summary = format!("{title}: a plugin of an editor.");
        }
        let category = category_of(&format!("{title} {summary}"));
        let agent = (entry.id.as_str(), title.as_str(), summary.as_str(), category, "files:read");
        let repository = format!("https://github.com/{}", entry.repo);
        match submit(app, &publisher, package_of(REAL_PUBLISHER, &agent, "1.0.0", &repository)?).await {
            Ok(_) => names.push(entry.id.clone()),
            // A name that is not fit for a title here, or an address that is none.
            Err(problem) if problem.kind() == "invalid" => tracing::debug!(entry.id, "{problem}"),
            Err(problem) => return Err(problem),
        }
        clock.advance(UPLOAD_MS);
    }
    Ok(names)
}

/// An account on this machine that nobody can sign in to.
async fn local(app: &App, handle: &str, role: &str) -> Result<Caller> {
    let mut tx = app.db.begin().await?;
    sqlx::query(
        "INSERT INTO accounts (id, handle, email, display_name, password_hash, role, tier, created_at)
         VALUES ($1, $2, $3, $2, '', $4, 'free', $5)",
    )
    .bind(db::new_id())
    .bind(handle)
    .bind(format!("{handle}@example.org"))
    .bind(role)
    .bind(app.clock.now_ms())
    .execute(tx.on())
    .await?;
    tx.commit().await?;
    let account: Account = by_handle(app, handle).await?;
    Ok(Caller::local(account))
}

fn package(namespace: &str, agent: &(&str, &str, &str, &str, &str), version: &str) -> Result<Bytes> {
    package_of(namespace, agent, version, "")
}

fn package_of(
    namespace: &str,
    agent: &(&str, &str, &str, &str, &str),
    version: &str,
    repository: &str,
) -> Result<Bytes> {
    let (name, title, summary, category, permission) = agent;
    let manifest = json!({
        "name": format!("{namespace}/{name}"), "version": version, "title": title, "summary": summary,
        "license": "Apache-2.0", "categories": [category], "tags": [name.split('-').next()],
        "entrypoint": "main.py", "runtime": { "kind": "python", "version": ">=3.11" }, "permissions": [permission], "repository": repository,
    });
    let readme = format!(
        "# {title}\n\n{summary}\n\n## Use\n\n```sh\nmarketplace install {namespace}/{name}\npython agents/{namespace}/{name}/current/main.py\n```\n\n\
         ## What it may do\n\n| permission | why |\n|---|---|\n| `{permission}` | its work |\n"
    );
    let main = format!("print({:?})\n", format!("{title} {version}"));
    let manifest = serde_json::to_vec_pretty(&manifest)?;
    let failed = |e: std::io::Error| Problem::internal(format!("a sample package: {e}"));
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, bytes) in
        [("agent.json", manifest.as_slice()), ("README.md", readme.as_bytes()), ("main.py", main.as_bytes())]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, bytes).map_err(failed)?;
    }
    Ok(tar.into_inner().and_then(GzEncoder::finish).map_err(failed)?.into())
}

async fn collections(app: &App, moderator: &Caller) -> Result<()> {
    let chosen = [
        (
            "first-week",
            "Your first week",
            "Small helpers that ask for little.",
            ["readme-keeper", "pull-reader", "changelog"],
        ),
        (
            "before-release",
            "Before a release",
            "What to run before you ship.",
            ["flake-hunter", "leak-finder", "contract-guard"],
        ),
    ];
    let snapshot = app.catalogue.now();
    for (slug, title, description, names) in chosen {
        let named = |name: &&str| snapshot.cards.iter().find(|c| c.name == **name).map(|c| c.full_name());
        let agents = names.iter().filter_map(named).map(|agent| NewItem { agent, note: String::new() }).collect();
        let new = NewCollection {
            slug: slug.to_string(),
            title: title.to_string(),
            description: description.to_string(),
            curated: true,
            agents,
        };
        collection::put(app, moderator, &new).await?;
    }
    Ok(())
}

/// One thing that somebody does. Early agents of the list are liked most.
async fn act(
    till: &Till<'_>,
    who: &Caller,
    names: &[String],
    random: &mut Random,
    runs: &mut Vec<Value>,
) -> Result<()> {
    let app = till.app;
    let now = app.clock.now_ms();
    let snapshot = app.catalogue.now();
    let all = if random.below(3) == 0 { names.len() } else { AGENTS.len() };
    let rank = random.below(all).min(random.below(all));
    let name = names.get(rank).map(String::as_str).unwrap_or_default();
    let Some(card) = snapshot.cards.iter().find(|c| c.name == name).cloned() else { return Ok(()) };
    // What is done with an agent is mostly done with one that somebody has.
    let kind = random.below(10);
    let own = if kind > 3 { list(app, who).await? } else { Vec::new() };
    let card = random.of(&own).map_or(card, |has| has.agent.clone());
    let from = ["search", "category", "link", "ide"].get(random.below(4)).copied().unwrap_or_default();
    if from == "search" {
        let q = random.of(&WORDS).copied().unwrap_or_default();
        let found = app.catalogue.search(&Query { q: q.to_string(), ..Query::default() })?.total;
        let event = Event { search_text: q.to_string(), ..Event::new("searched", now) };
        app.views.add(event.by(&who.account).with("found", found.to_string()));
    }
    app.views.add(Event { referrer: from.to_string(), ..Event::new("viewed", now) }.by(&who.account).about(&card));
    match kind {
        0..=3 => {
            let version = if random.below(3) == 0 { Some("1.0.0".to_string()) } else { None };
            if till.buy(who, &card, random).await? {
                install(app, who, &card, &Wanted { version, channel: None }).await?;
            }
        }
        // Not everybody has something to upgrade, to go back to, or to review.
        4 if random.below(2) == 0 => drop(rollback(app, who, &card, None).await),
        4 => drop(install(app, who, &card, &Wanted::default()).await),
        5 if random.below(3) == 0 => uninstall(app, who, &card).await?,
        6 | 7 => {
            let stars = 1 + random.below(5).max(random.below(5));
            let text = OPINIONS.get(stars - 1).and_then(|texts| random.of(texts)).copied().unwrap_or_default();
            drop(reviews::write(app, who, &card, &NewReview { stars: stars as i64, text: text.to_string() }).await);
        }
        _ => {
            if let Some(has) = one(app, &who.account.id, &card).await? {
                runs.extend((0..1 + random.below(9)).map(|n| run(&has, who, now + 1_000 * n as i64, random)));
            }
        }
    }
    Ok(())
}

/// One run of an installed agent, as its own program tells Millstream.
fn run(has: &Installed, who: &Caller, at: i64, random: &mut Random) -> Value {
    let ok = random.below(12) > 0;
    let (read, written) = (400 + random.below(6_000), 50 + random.below(900));
    json!({
        "event_id": db::new_id(), "event_time": rfc3339(at), "name": "run", "user_id": who.account.id,
        "agent": has.agent.full_name(), "agent_version": has.version, "model": "sample-model",
        "status": if ok { "ok" } else { "error" }, "duration_ms": 300 + random.below(4_000) + random.below(4_000),
        "tokens_input": read, "tokens_output": written, "cost_usd": (read + 4 * written) as f64 * 0.000_003,
    })
}
