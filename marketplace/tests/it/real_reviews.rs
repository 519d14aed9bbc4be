//! Real ratings of a real marketplace, 347,283 of them, against what another engine computed from the same file: the histogram,
//! the mean, the Bayesian order; and a part of them written one by one, as their authors would.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;

use millstream_marketplace::accounts::{Caller, by_handle};
use millstream_marketplace::reviews::{self, NewReview};
use millstream_marketplace::search::{Query, Sort};
use reqwest::StatusCode;
use serde_json::json;

use crate::market::{Market, START_MS};
use crate::search::{Row, put};

/// One line: who, about whom, how many stars (0 to 5).
type Rating = (String, String, i64);

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data")
}

fn ratings() -> Option<Vec<Rating>> {
    let path = folder().join("market_reviews_open.csv.gz");
    let Ok(file) = std::fs::File::open(&path) else {
        println!("left out: {} is not there", path.display());
        return None;
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let of = |line: &str| {
        let mut fields = line.split(',').map(str::to_string);
        let (who, whom, stars) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        (who, whom, stars.parse().unwrap())
    };
    Some(text.lines().skip(1).map(of).collect())
}

/// Lines of an answer.
fn answer(question: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(folder().join(format!("answers/market_reviews__{question}.csv"))).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(str::to_string).collect()).collect()
}

async fn vendors(market: &Market, names: &BTreeSet<String>) {
    let rows = names.iter().map(|name| Row {
        name,
        title: name,
        summary: "A vendor of a real marketplace.",
        category: 0,
        installs: 0,
        reviews: (0, 0),
        price: "free",
    });
    put(market, rows).await;
}

fn name_of(vendor: &str) -> String {
    format!("vendor-{vendor}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_them_add_up_to_the_answers() {
    let Some(ratings) = ratings() else { return };
    let market = Market::start().await;
    vendors(&market, &ratings.iter().map(|(_, v, _)| name_of(v)).collect()).await;
    // Each line is a review of its own author; no stars at all is none.
    let rated: Vec<(usize, &Rating)> = ratings.iter().enumerate().filter(|(_, (_, _, stars))| *stars > 0).collect();
    let lines: Vec<_> = rated.iter().map(|(i, (_, v, stars))| json!([format!("r{i}"), name_of(v), stars])).collect();
    let lines = serde_json::Value::from(lines).to_string();
    let mut tx = market.app.db.begin().await.unwrap();
    for sql in [
        "INSERT INTO accounts (id, handle, email, display_name, password_hash, role, tier, created_at)
         SELECT value ->> 0, value ->> 0, value ->> 0, value ->> 0, '', 'consumer', 'free', 0 FROM json_each($1)",
        "INSERT INTO reviews (id, agent_id, account_id, version, stars, text, state, created_at, edited_at)
         SELECT value ->> 0, a.id, value ->> 0, '1.0.0', value ->> 2, '', 'visible', 0, 0
         FROM json_each($1) JOIN agents a ON a.name = value ->> 1",
        "UPDATE agents SET changed_at = changed_at + 1, review_count = (SELECT count(*) FROM reviews r WHERE r.agent_id = agents.id),
         stars_sum = (SELECT COALESCE(sum(stars), 0) FROM reviews r WHERE r.agent_id = agents.id) WHERE $1 <> ''",
    ] {
        sqlx::query(sql).bind(&lines).execute(tx.on()).await.unwrap();
    }
    tx.commit().await.unwrap();
    market.app.catalogue.refresh().await.unwrap();

    // The histograms of all vendors together.
    let expected: Vec<(i64, i64)> =
        answer("ratings").iter().map(|l| (l[0].parse().unwrap(), l[1].parse().unwrap())).collect();
    let mut histogram = [0; 5];
    let nobody = market.stranger();
    let snapshot = market.app.catalogue.now();
    for card in &snapshot.cards {
        let details = nobody.get(&format!("/api/v1/agents/{}", card.full_name())).await.expect(StatusCode::OK).json;
        for (all, one) in histogram.iter_mut().zip(details["histogram"].as_array().unwrap()) {
            *all += one.as_i64().unwrap();
        }
    }
    for (stars, count) in &expected {
        match stars {
            0 => println!("{count} ratings of no stars are none here"),
            n => assert_eq!(histogram[*n as usize - 1], *count, "{n} stars"),
        }
    }
    // The mean of all, those of no stars taken out of the answer's.
    let totals = &answer("totals")[0];
    let (n, mean): (f64, f64) = (totals[0].parse().unwrap(), totals[3].parse().unwrap());
    let without = n * mean / (n - expected[0].1 as f64);
    assert!((snapshot.rating_mean - without).abs() < 1e-9, "{} {without}", snapshot.rating_mean);

    // The order by rating: the answers' counts and means, drawn towards the mean by 25 reviews.
    let zeros = |vendor: &str| ratings.iter().filter(|(_, v, stars)| v == vendor && *stars == 0).count() as f64;
    let mut order: Vec<(f64, f64, String)> = answer("top_vendors")
        .iter()
        .map(|l| {
            let (n, average): (f64, f64) = (l[1].parse().unwrap(), l[2].parse().unwrap());
            let count = n - zeros(&l[0]);
            ((n * average + 25.0 * without) / (count + 25.0), count, name_of(&l[0]))
        })
        .collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let query = Query { sort: Some(Sort::Rating), per_page: Some(100), ..Query::default() };
    let mut ours = Vec::new();
    let mut page = market.app.catalogue.search(&query).unwrap();
    loop {
        ours.extend(page.agents.iter().map(|hit| (hit.card.rating, hit.card.review_count, hit.card.name.clone())));
        let Some(seek) = page.next else { break };
        page = market.app.catalogue.search(&Query { seek: Some(seek), ..query.clone() }).unwrap();
    }
    assert!(ours.len() >= order.len() && order.len() == 200, "{} {}", ours.len(), order.len());
    // The answers have the 200 vendors with most ratings; ours are all.
    let known: BTreeSet<&String> = order.iter().map(|(_, _, name)| name).collect();
    ours.retain(|(_, _, name)| known.contains(name));
    for ((rating, count, name), (expected, n, of)) in ours.iter().zip(&order) {
        // A card is made anew where the mean moved it by more than 0.005.
        assert!((rating - expected).abs() < 0.006, "{name} {rating}, {of} {expected}");
        assert!(name == of || (rating - expected).abs() < 0.006, "{name} is where {of} should be");
        if name == of {
            assert_eq!(*count as f64, *n, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_of_them_written_one_by_one_leave_the_last_word_of_each_author() {
    let Some(ratings) = ratings() else { return };
    // Vendors with fewest ratings of those in the answers: some hundreds of reviews, with authors who come again.
    let few: Vec<Vec<String>> = answer("top_vendors").into_iter().rev().take(12).collect();
    let names: BTreeSet<String> = few.iter().map(|l| name_of(&l[0])).collect();
    let market = Market::start().await;
    vendors(&market, &names).await;
    let lines: Vec<&Rating> = ratings.iter().filter(|(_, v, _)| names.contains(&name_of(v))).collect();
    let mut tx = market.app.db.begin().await.unwrap();
    let people: BTreeSet<&String> = lines.iter().map(|(who, _, _)| who).collect();
    for who in &people {
        sqlx::query(
            "INSERT INTO accounts (id, handle, email, display_name, password_hash, role, tier, created_at)
             VALUES ($1, $1, $1, $1, '', 'consumer', 'free', 0)",
        )
        .bind(format!("r{who}"))
        .execute(tx.on())
        .await
        .unwrap();
    }
    sqlx::query(
        "INSERT INTO installs (account_id, agent_id, version, state, first_at, changed_at)
         SELECT p.id, a.id, '1.0.0', 'installed', $1, $1 FROM accounts p, agents a WHERE p.password_hash = ''",
    )
    .bind(START_MS)
    .execute(tx.on())
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let mut last: BTreeMap<(&String, &String), i64> = BTreeMap::new();
    for (who, vendor, stars) in lines.iter().copied() {
        let caller = Caller::local(by_handle(&market.app, &format!("r{who}")).await.unwrap());
        let card = market.app.catalogue.now().named("many", &name_of(vendor)).unwrap();
        let written =
            reviews::write(&market.app, &caller, &card, &NewReview { stars: *stars, text: String::new() }).await;
        if *stars == 0 {
            assert!(written.unwrap_err().detail().contains("stars is 0; use 1 to 5"));
            continue;
        }
        written.unwrap();
        last.insert((vendor, who), *stars);
        // Each is of another second.
        market.clock.advance(1_000);
    }
    println!("{} ratings by {} people", lines.len(), people.len());
    for line in &few {
        let stars: Vec<i64> = last.iter().filter(|((v, _), _)| **v == line[0]).map(|(_, stars)| *stars).collect();
        let details = market.stranger().get(&format!("/api/v1/agents/many/{}", name_of(&line[0]))).await;
        let details = details.expect(StatusCode::OK).json;
        let mut histogram = [0; 5];
        stars.iter().for_each(|n| histogram[*n as usize - 1] += 1);
        assert_eq!(
            (&details["review_count"], &details["histogram"]),
            (&json!(stars.len()), &json!(histogram)),
            "{line:?}"
        );
        // As many as the answer counts authors, less those who only ever gave none.
        let authors = |zero: bool| {
            let of = lines.iter().filter(|(_, v, stars)| *v == line[0] && (zero || *stars > 0));
            of.map(|(who, _, _)| who).collect::<BTreeSet<_>>().len()
        };
        assert_eq!(authors(true), line[3].parse::<usize>().unwrap(), "{line:?}");
        assert_eq!(authors(false), stars.len(), "{line:?}");
    }
}
