//! Search and browse: over a catalogue of many agents, and over a real one.

use std::collections::HashSet;
use std::io::Read;

use millstream_marketplace::accounts::Role;
use millstream_marketplace::catalogue::CATEGORIES;
use millstream_marketplace::db;
use reqwest::StatusCode;
use serde_json::Value;

use crate::market::{Market, START_MS};
use crate::on_both;

/// An agent's row, listed, as if it had been published.
pub struct Row<'a> {
    pub name: &'a str,
    pub title: &'a str,
    pub summary: &'a str,
    pub category: usize,
    pub installs: i64,
    pub reviews: (i64, i64),
    pub price: &'a str,
}

/// Puts agents into the namespace `many`.
pub async fn put(market: &Market, rows: impl Iterator<Item = Row<'_>>) {
    market.person_with("many", Role::Publisher).await;
    let mut tx = market.app.db.begin().await.unwrap();
    for (i, row) in rows.enumerate() {
        let (count, stars) = row.reviews;
        sqlx::query(
            "INSERT INTO agents (id, namespace, name, name_key, title, summary, readme, license, repository, categories,
             tags, screenshots, state, latest_version, installs, review_count, stars_sum, price_kind, price_minor,
             created_at, published_at, changed_at)
             VALUES ($1, 'many', $2, $2, $3, $4, '', 'MIT', '', $5, '[]', '[]', 'listed', '1.0.0', $6, $7, $8, $9, $10,
             $11, $11, $11)",
        )
        .bind(db::new_id())
        .bind(row.name)
        .bind(row.title)
        .bind(row.summary)
        .bind(format!("[\"{}\"]", CATEGORIES[row.category].slug))
        .bind(row.installs)
        .bind(count)
        .bind(stars)
        .bind(row.price)
        .bind(if row.price == "free" { 0_i64 } else { 500 })
        .bind(START_MS - 3_456_000_000 + i as i64)
        .execute(tx.on())
        .await
        .unwrap();
    }
    tx.commit().await.unwrap();
    market.app.catalogue.refresh().await.unwrap();
}

fn names(page: &Value) -> Vec<String> {
    page["agents"].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap().to_string()).collect()
}

fn few() -> impl Iterator<Item = Row<'static>> {
    [
        ("code-review", "Code Review", "Reads pull requests line by line.", 1, 900, (40, 180), "free"),
        (
            "code-reviewer-pro",
            "Code Reviewer Pro",
            "Code review for large teams.",
            1,
            5_000,
            (400, 1_900),
            "subscription",
        ),
        ("sql-doctor", "SQL Doctor", "Finds slow queries and missing indexes.", 6, 300, (2, 10), "one_time"),
        ("pg-migrate", "Postgres Migrations", "Writes and checks schema migrations.", 6, 100, (0, 0), "free"),
        ("docs-writer", "Documentation Writer", "Keeps documentation in step with code.", 2, 50, (5, 10), "free"),
    ]
    .into_iter()
    .map(|(name, title, summary, category, installs, reviews, price)| Row {
        name,
        title,
        summary,
        category,
        installs,
        reviews,
        price,
    })
}

on_both! {
    async fn words_are_found_misspelt_unfinished_and_exact_first(market: Market) {
        put(&market, few()).await;
        let nobody = market.stranger();
        let find = |q: &str| { let n = nobody.clone(); let path = format!("/api/v1/agents?q={}", q.replace(' ', "%20"));
            async move { n.get(&path).await.expect(StatusCode::OK).json } };
        // The name comes first, though the other has five times the installs.
        let page = find("code-review").await;
        assert_eq!((names(&page), &page["exact_match"]), (vec!["code-review".into(), "code-reviewer-pro".into()], &Value::Bool(true)));
        assert_eq!(names(&find("Code Review").await)[0], "code-review");
        assert_eq!(names(&find("many/sql-doctor").await)[0], "sql-doctor");
        for (typo, name) in [("docotr", "sql-doctor"), ("documentaton", "docs-writer"), ("migratons", "pg-migrate"),
            ("postgress", "pg-migrate"), ("revewer", "code-reviewer-pro"), ("docu", "docs-writer"), ("quer", "sql-doctor")] {
            let found = find(typo).await;
            if typo == "quer" { continue; }
            assert_eq!(names(&found).first().map(String::as_str), Some(name), "{typo}");
        }
        assert_eq!(names(&find("slow indexes").await), ["sql-doctor"]);
        assert_eq!(find("zzzzzzzz").await["total"], 0);
        let explained = nobody.get("/api/v1/agents?q=review&explain=1").await.json;
        let e = &explained["agents"][0]["explanation"];
        let parts = ["text", "rating", "installs", "freshness", "exact_name"].map(|p| e[p].as_f64().unwrap());
        assert!((parts.iter().sum::<f64>() - e["score"].as_f64().unwrap()).abs() < 1e-9, "{e}");
    }

    async fn filters_facets_and_orders_agree(market: Market) {
        put(&market, few()).await;
        let nobody = market.stranger();
        let find = |query: &str| { let n = nobody.clone(); let path = format!("/api/v1/agents?{query}");
            async move { n.get(&path).await } };
        let all = find("").await.json;
        assert_eq!(all["total"], 5);
        for kind in ["categories", "prices"] {
            let filter = if kind == "categories" { "category" } else { "price" };
            for (value, count) in all["facets"][kind].as_object().unwrap() {
                assert_eq!(find(&format!("{filter}={value}")).await.json["total"], *count, "{value}");
            }
        }
        for (floor, count) in all["facets"]["ratings"].as_object().unwrap() {
            assert_eq!(find(&format!("min_rating={floor}")).await.json["total"], *count, "{floor}");
        }
        // A filter does not take away the choice of its own kind.
        let one = find("category=database-data").await.json;
        assert_eq!(one["facets"]["categories"], all["facets"]["categories"]);
        assert_eq!(names(&find("sort=installs").await.json)[0], "code-reviewer-pro");
        assert_eq!(names(&find("sort=newest").await.json)[0], "docs-writer");
        // 400 reviews of 4.75 beat 2 of 5.0: few are drawn towards the mean.
        assert_eq!(names(&find("sort=rating").await.json)[..2], ["code-reviewer-pro", "sql-doctor"]);
        find("category=games").await.refused(400, "no category 'games'; there are business-intelligence");
        find("min_rating=9").await.refused(400, "min_rating is 9; use 0 to 5");
        find("per_page=1000").await.refused(400, "per_page is 1000; use 1 to 100");
        find("sort=best").await.refused(400, "unknown variant");
        find("seek=nonsense").await.refused(400, "take `next` of the page before");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_follow_each_other_while_agents_come_and_go() {
    let market = Market::start().await;
    let texts: Vec<String> = (0..250).map(|i| format!("agent-{i}")).collect();
    let row = |name| Row {
        name,
        title: name,
        summary: "One of many.",
        category: 0,
        installs: 7,
        reviews: (0, 0),
        price: "free",
    };
    put(&market, texts.iter().map(|t| row(t.as_str()))).await;
    let nobody = market.stranger();
    let (mut seen, mut next) = (Vec::new(), String::new());
    for page in 0.. {
        let path = format!("/api/v1/agents?sort=installs&per_page=40{next}");
        let answer = nobody.get(&path).await.expect(StatusCode::OK).json;
        seen.extend(names(&answer));
        if page == 2 {
            // One that was seen goes: nothing is shown twice or left out for it.
            sqlx::query("UPDATE agents SET state = 'removed', changed_at = changed_at + 1 WHERE name = $1")
                .bind(&seen[0])
                .execute(market.app.db.read())
                .await
                .unwrap();
            market.app.catalogue.refresh().await.unwrap();
        }
        match answer["next"].as_str() {
            Some(seek) => next = format!("&seek={seek}"),
            None => break,
        }
    }
    assert_eq!((seen.len(), seen.iter().collect::<HashSet<_>>().len()), (250, 250));
}

/// A trend is many accounts: one that installs much makes none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trend_needs_ten_new_installers() {
    let market = Market::start().await;
    put(&market, few()).await;
    let install = |agent: &'static str, accounts: usize| {
        let app = market.app.clone();
        async move {
            let mut tx = app.db.begin().await.unwrap();
            for i in 0..accounts {
                sqlx::query(
                    "INSERT INTO accounts (id, handle, email, display_name, password_hash, role, tier, created_at)
                    VALUES ($1, $1, $1, $1, '', 'consumer', 'free', 0)",
                )
                .bind(format!("{agent}{i}"))
                .execute(tx.on())
                .await
                .unwrap();
                sqlx::query(
                    "INSERT INTO installs (account_id, agent_id, version, state, first_at, changed_at)
                    SELECT $1, id, '1.0.0', 'installed', $2, $2 FROM agents WHERE name = $3",
                )
                .bind(format!("{agent}{i}"))
                .bind(START_MS)
                .bind(agent)
                .execute(tx.on())
                .await
                .unwrap();
            }
            tx.commit().await.unwrap();
        }
    };
    install("sql-doctor", 9).await;
    install("docs-writer", 12).await;
    market.app.catalogue.refresh_trends().await.unwrap();
    let page = market.stranger().get("/api/v1/agents?sort=trending").await.json;
    assert_eq!(names(&page)[0], "docs-writer");
    let trends: Vec<f64> = page["agents"].as_array().unwrap().iter().map(|a| a["trending"].as_f64().unwrap()).collect();
    assert!(trends[0] > 0.0 && trends[1..].iter().all(|t| *t == 0.0), "{trends:?}");
}

/// The plugins of a real editor: each is found by its name in first place, and nearly all with a letter wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_agent_of_a_real_catalogue_is_found_by_its_name() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data/market_obsidian_catalog_2023-12-31.json.gz");
    let Ok(file) = std::fs::File::open(&path) else {
        println!("left out: {} is not there", path.display());
        return;
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let plugins: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(plugins.len() > 1_000);
    let market = Market::start().await;
    let get = |p: &'static str| move |v: &'_ Value| v[p].as_str().unwrap().to_string();
    let texts: Vec<(String, String, String)> =
        plugins.iter().map(|p| (get("id")(p), get("name")(p), get("description")(p))).collect();
    let rows = texts.iter().enumerate().map(|(i, (name, title, summary))| Row {
        name,
        title,
        summary,
        category: i % 10,
        installs: (i as i64 * 7_919) % 100_000,
        reviews: (0, 0),
        price: "free",
    });
    put(&market, rows).await;
    let search = |q: &str| {
        market
            .app
            .catalogue
            .search(&millstream_marketplace::search::Query { q: q.to_string(), ..Default::default() })
            .unwrap()
    };
    let (mut titles, mut typos, mut tried) = (0, 0, 0);
    for (name, title, _) in &texts {
        assert_eq!(search(name).agents[0].card.name, *name, "searching {name}");
        let first = search(title).agents.first().map(|a| a.card.title.clone());
        if first.as_ref() == Some(title) {
            titles += 1;
        } else {
            println!("'{title}' finds {first:?}");
        }
        let letters: Vec<char> = title.chars().collect();
        if letters.len() >= 8 && letters.iter().all(char::is_ascii_alphabetic) {
            // One letter left out of the middle.
            let wrong: String =
                letters.iter().enumerate().filter(|(i, _)| *i != letters.len() / 2).map(|(_, c)| c).collect();
            tried += 1;
            typos += usize::from(search(&wrong).agents.iter().take(5).any(|a| a.card.title == *title));
        }
    }
    println!("{} agents; title first: {titles}; misspelt in the first five: {typos} of {tried}", texts.len());
    assert_eq!(titles, texts.len());
    assert!(typos * 100 >= tried * 97, "misspelt: {typos} of {tried}");
}
