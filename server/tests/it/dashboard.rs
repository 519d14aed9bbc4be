//! The pages, as a browser without a script gets them.

use millstream_server::keys::Role;

use crate::http::{Answer, Running, agent_event};

const PAGES: [(&str, &str); 9] = [
    ("/", "All pipelines are running"),
    ("/users", "Retention"),
    ("/agents", "Most used agents"),
    ("/business", "MRR movements"),
    ("/system", "Errors and incidents"),
    ("/pipelines", "What flows into what"),
    ("/sql", "Live tail"),
    ("/reports", "No report is scheduled"),
    ("/catalogue", "Daily active users"),
];

impl Running {
    /// As a browser: with a cookie, without a key in a header.
    async fn browse(&self, path: &str, cookie: &str) -> Answer {
        let request = self.client.get(self.url(path)).header("accept", "text/html").header("cookie", cookie);
        // From elsewhere: the person at the machine needs no key.
        self.send(request.header("x-forwarded-for", "10.0.0.1")).await
    }

    pub async fn form(&self, path: &str, origin: &str, body: &str) -> Answer {
        let post = self.client.post(self.url(path)).header("origin", origin).body(body.to_string());
        self.send(post.header("content-type", "application/x-www-form-urlencoded")).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_whole_without_a_script_and_loads_nothing_from_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    for (path, text) in PAGES {
        let page = running.send(running.client.get(running.url(path))).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        assert!(page.content_type.starts_with("text/html"), "{path}");
        assert!(page.text.contains(text), "{path} has no {text:?}: {}", page.text);
        assert!(page.text.contains("<main id=\"main\">") && page.text.contains("Skip to content"), "{path}");
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
        assert!(!page.text.contains("style=\"") && !page.text.contains("<style"), "{path}: the policy forbids it");
        let elsewhere = page.text.match_indices("://").map(|(at, _)| page.text[..at].rsplit('"').next().unwrap());
        assert!(elsewhere.clone().all(|scheme| scheme == "http" && page.text.contains("xmlns=")), "{path}");
    }
    let style = running.send(running.client.get(running.url("/assets/millstream.css"))).await;
    assert!(style.text.contains("--millstream-0:#0072b2") && style.content_type.starts_with("text/css"));
    assert!(style.headers["cache-control"].to_str().unwrap().contains("immutable"));
    let unknown = running.get("/assets/..%2fkeys.json").await;
    unknown.is_problem(404, "no asset");
    running.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_signs_in_and_other_sites_cannot_use_its_cookie() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let away = running.browse("/users?range=7d", "").await;
    assert!(away.text.contains("Sign in to Millstream"), "{}", away.text);
    assert!(away.text.contains("value=\"/users?range=7d\""), "and back to the page: {}", away.text);
    let origin = running.url("");
    let wrong = running.form("/sign-in", &origin, "key=millstream_x").await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.text.contains("not known here"), "{}", wrong.text);
    let producer = running.form("/sign-in", &origin, &format!("key={}", running.producer)).await;
    assert!(producer.text.contains("this needs analyst or admin"), "{}", producer.text);
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let post = client.post(running.url("/sign-in")).header("content-type", "application/x-www-form-urlencoded");
    let body = format!("key={}&next=%2Fusers", running.analyst);
    let signed = running.send(post.header("origin", &origin).body(body.clone())).await;
    assert_eq!((signed.status, signed.headers["location"].to_str().unwrap()), (303, "/users"));
    let cookie = signed.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Lax;") && !cookie.contains("Secure"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let page = running.browse("/users", cookie).await;
    assert!(page.text.contains("Sign out") && page.text.contains("analyst"), "{}", page.text);
    let evil = running.form("/sign-in", "http://evil.example", &body).await;
    evil.is_problem(403, "a page of another site");
    running.form("/sql", "http://evil.example", "sql=SELECT+1").await.is_problem(403, "a page of another site");
    let revoked = running.server.keys.list().unwrap()[0].name.clone();
    assert_eq!(running.server.keys.list().unwrap()[0].role, Role::Analyst);
    running.server.keys.revoke(&revoked).unwrap();
    let page = running.browse("/users", cookie).await;
    assert!(page.text.contains("Sign in to Millstream"), "a revoked key is out: {}", page.text);
    running.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_business_page_is_about_one_currency_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let paid = |(id, account, currency): (u32, &str, &str)| {
        format!(
            r#"{{"event_id":"p{id}","event_time":"2026-11-23T09:00:00Z","account_id":"{account}","name":"paid","amount_minor":{id}00,"currency":"{currency}"}}"#
        )
    };
    let rows = [(1, "alpine", "EUR"), (2, "bayou", "USD"), (3, "canyon", "USD")].map(paid);
    running.ingest("/api/v1/ingest/payment_events?producer=p&epoch=1&sequence=1", rows.join("\n")).await;
    running.server.engine.flush().await.unwrap();
    for (currency, inside, outside) in [("EUR", "alpine", "bayou"), ("USD", "bayou", "alpine")] {
        let path = format!("/business?from=2026-11-20&to=2026-11-25&currency={currency}");
        let page = running.send(running.client.get(running.url(&path))).await;
        assert!(page.text.contains(inside), "{currency}: {}", page.text);
        assert!(!page.text.contains(outside), "{currency} with a customer who pays otherwise: {}", page.text);
    }
    running.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sql_page_answers_draws_and_marks_the_place_of_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let rows: Vec<String> = (1..=3)
        .map(|i| agent_event(i, &format!("2026-11-23T09:0{i}:00Z"), ["coder", "=planner"][i as usize % 2], i))
        .collect();
    running.ingest("/api/v1/ingest/agent_events?producer=p&epoch=1&sequence=1", rows.join("\n")).await;
    running.server.engine.flush().await.unwrap();
    let origin = running.url("");
    let sql = "sql=SELECT+agent,+sum(tokens_input)+AS+tokens+FROM+raw_agent_events+GROUP+BY+agent+ORDER+BY+agent+DESC";
    let page = running.form("/sql", &origin, sql).await;
    assert!(
        page.text.contains("2 rows") && page.text.contains("coder</td><td class=\"number\">2</td>"),
        "{}",
        page.text
    );
    assert!(page.text.contains("class=\"millstream-chart\""), "a text and a number are a ranking");
    let csv = running.form("/sql/csv", &origin, sql).await;
    assert_eq!(csv.text, "\u{feff}agent,tokens\r\ncoder,2\r\n'=planner,4\r\n", "for spreadsheets");
    let wrong = running.form("/sql", &origin, "sql=SELECT+event_id%0AFORM+raw_agent_events").await;
    assert!(wrong.text.contains("2 | FORM raw_agent_events\n  |      ^"), "{}", wrong.text);
    let pages = running.send(running.client.get(running.url("/pipelines"))).await;
    assert!(
        pages.text.contains("data-pipeline=\"agent_usage_1m\"") && pages.text.contains("class=\"edge\""),
        "{}",
        pages.text
    );
    let wrong = running.form("/sql", &origin, "sql=DROP+TABLE+raw_agent_events").await;
    assert!(wrong.text.contains("queries only read"), "{}", wrong.text);
    let unknown = running.send(running.client.get(running.url("/sql/tail?table=nope"))).await;
    unknown.is_problem(404, "no table `nope`; there are:");
    running.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn live_streams_tell_figures_and_rows_and_end_with_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    running.ingest("/api/v1/ingest/agent_events", agent_event(1, "2026-11-23T09:00:00Z", "coder", 7)).await;
    running.server.engine.flush().await.unwrap();
    let mut live = running.client.get(running.url("/live")).send().await.unwrap();
    let first = String::from_utf8(live.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(
        first.starts_with("event: status\ndata: {") && first.contains("\"health\":\"All pipelines are running\""),
        "{first}"
    );
    let mut tail = running.client.get(running.url("/sql/tail?table=raw_agent_events")).send().await.unwrap();
    let rows = String::from_utf8(tail.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(rows.starts_with("event: rows\n") && rows.contains("\"tokens_input\":7"), "{rows}");
    running.server.stop().await.unwrap();
    while live.chunk().await.unwrap().is_some() {}
    while tail.chunk().await.unwrap().is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn one_live_page_too_many_is_told_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let mut live = Vec::new();
    for _ in 0..128 {
        let mut page = running.client.get(running.url("/live")).send().await.unwrap();
        assert!(page.chunk().await.unwrap().is_some());
        live.push(page);
    }
    let refused = running.send(running.client.get(running.url("/live"))).await;
    refused.is_problem(503, "128 pages are live already; close some, or load the page again later");
    running.server.stop().await.unwrap();
}
