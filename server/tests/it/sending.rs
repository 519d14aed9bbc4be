//! Reports by the clock, to a real mail server: aiosmtpd, which keeps each mail as a file.

use std::path::Path;
use std::sync::Arc;

use millstream::time::{Clock, ManualClock};
use millstream_server::config::{Config, Reports};
use millstream_server::range::parse_time;
use millstream_server::sending::{self, Scheduled, Sending, Smtp};
use millstream_server::serve::Server;

use crate::http::{Running, agent_event, config};
use crate::mail_server::{MailServer, free_port};

fn scheduled(to: &[&str]) -> Scheduled {
    Scheduled {
        report: "weekly".into(),
        cron: "0 7 * * 1".into(),
        time_zone: Some("Europe/Berlin".into()),
        covers: None,
        to: to.iter().map(|a| a.to_string()).collect(),
    }
}

async fn sender(dir: &Path, smtp: Option<Smtp>, clock: Arc<ManualClock>) -> (Server, Sending) {
    let reports = Reports {
        organisation: "Acme Robotics".into(),
        schedule: vec![scheduled(&["ada@example.com", "bo@example.com"])],
    };
    let config = Config { smtp, reports, ..config(dir) };
    // The server's own loop would look at the same clock: it gets no schedule, and the test looks itself.
    let quiet = Config { reports: Reports::default(), ..config.clone() };
    let server = Server::start(quiet, clock.clone()).await.unwrap();
    let sending = Sending { engine: server.engine.clone(), config, clock: clock as Arc<dyn Clock> };
    (server, sending)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_made_when_due_kept_and_mailed_once_also_after_a_restart() {
    let (dir, mail_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = free_port();
    let mail = MailServer::start(mail_dir.path(), port);
    let smtp = Smtp { url: format!("smtp://127.0.0.1:{port}"), from: "Reports <reports@acme.example>".into() };
    // Sunday noon; the report is due on Monday at seven in Berlin, six in UTC.
    let clock = Arc::new(ManualClock::at(parse_time("2026-11-22T12:00:00Z").unwrap()));
    let (server, sending) = sender(dir.path(), Some(smtp.clone()), clock.clone()).await;
    let running = Running::of(server);
    let event = agent_event(1, "2026-11-18T09:00:01Z", "coder", 10);
    assert_eq!(running.ingest("/api/v1/ingest/agent_events", event).await.status, 200);
    running.server.engine.flush().await.unwrap();
    assert_eq!(sending.go().await, 0, "the week before was due more than a day ago");
    clock.set(parse_time("2026-11-23T06:00:00Z").unwrap());
    assert_eq!(sending.go().await, 1);
    assert_eq!(sending.go().await, 0, "once");

    let mails = mail.mails();
    assert_eq!(mails.len(), 2, "one for each reader");
    assert!(mails[0].contains("Subject: Weekly report, 2026-11-16 to 2026-11-22"), "{}", &mails[0][..800]);
    assert!(
        mails[0].contains("From: \"Reports\" <reports@acme.example>")
            || mails[0].contains("From: Reports <reports@acme.example>")
    );
    assert!(mails[0].contains("Agent executions: 1"), "{}", &mails[0][..2000]);
    assert!(mails[0].contains("=\"weekly_2026-11-16_2026-11-22.pdf\"") && mails[0].contains("10_headline.csv"));
    assert!(mails[0].contains("List-Unsubscribe: <mailto:reports@acme.example?subject=unsubscribe>"));

    let kept = sending::history(running.server.engine.lake(), 10).await.unwrap();
    assert_eq!((kept.len(), kept[0].trigger.as_str(), kept[0].tries), (1, "schedule", 1));
    assert_eq!((kept[0].from.as_str(), kept[0].to.as_str()), ("2026-11-15T23:00:00.000Z", "2026-11-22T23:00:00.000Z"));
    let page = running.send(running.client.get(running.url("/reports"))).await;
    assert!(page.text.contains("✓ ada@example.com"), "{}", page.text);
    let pdf = kept[0].files.iter().find(|f| f.name.ends_with(".pdf")).unwrap();
    let path = format!("/reports/weekly/runs/{}/{}", kept[0].run, pdf.name);
    let file = running.client.get(running.url(&path)).send().await.unwrap();
    assert_eq!(file.headers()["content-type"], "application/pdf");
    let bytes = file.bytes().await.unwrap();
    assert!(bytes.starts_with(b"%PDF") && bytes.len() as u64 == pdf.bytes);
    let names = running.server.engine.lake().names().await.unwrap();
    assert!(!names.iter().any(|n| n.starts_with("reports")), "they are beside the tables, not among them: {names:?}");
    // It holds the engine, and with it the data directory.
    drop(sending);
    running.server.stop().await.unwrap();

    let (server, sending) = sender(dir.path(), Some(smtp), clock.clone()).await;
    assert_eq!(sending.go().await, 0, "a restart does not send again");
    assert_eq!(mail.mails().len(), 2);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_sent_is_noted_and_tried_again() {
    let (dir, mail_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let clock = Arc::new(ManualClock::at(parse_time("2026-11-23T06:00:00Z").unwrap()));
    let closed = free_port();
    let smtp = |port| Smtp { url: format!("smtp://127.0.0.1:{port}"), from: "reports@acme.example".into() };
    let (server, mut sending) = sender(dir.path(), Some(smtp(closed)), clock.clone()).await;
    assert_eq!(sending.go().await, 1);
    let kept = sending::history(server.engine.lake(), 10).await.unwrap();
    let error = kept[0].recipients[0].error.as_deref().unwrap();
    assert!(error.contains("the mail server did not take the mail to ada@example.com"), "{error}");
    assert!(!kept[0].files.is_empty(), "the report itself is kept");
    assert_eq!(sending.go().await, 0, "not at once");
    let port = free_port();
    let mail = MailServer::start(mail_dir.path(), port);
    sending.config.smtp = Some(smtp(port));
    clock.set(parse_time("2026-11-23T06:10:00Z").unwrap());
    assert_eq!(sending.go().await, 1);
    assert_eq!(mail.mails().len(), 2);
    let kept = sending::history(server.engine.lake(), 10).await.unwrap();
    assert!(kept[0].settled() && kept[0].tries == 2, "{kept:?}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_sent_by_hand_from_its_page() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let origin = running.url("");
    for name in ["agent_publisher", "monthly_business", "platform", "weekly"] {
        let pdf = running.client.get(running.url(&format!("/reports/{name}/pdf?range=7d"))).send().await.unwrap();
        assert_eq!(
            (pdf.status().as_u16(), &pdf.headers()["content-type"]),
            (200, &"application/pdf".parse().unwrap()),
            "{name}"
        );
    }
    let page = running.form("/reports/platform/send", &origin, "to=&from=2026-11-16&until=2026-11-22&tz=UTC").await;
    assert!(page.text.contains("kept only") && page.text.contains("Platform"), "{}", page.text);
    let page = running.form("/reports/platform/send", &origin, "to=ada@example.com&range=7d").await;
    assert!(page.text.contains("no mail server; set smtp.url"), "{}", page.text);
    running
        .form("/reports/nope/send", &origin, "to=")
        .await
        .is_problem(404, "no report `nope`; there are: agent_publisher");
    running.form("/reports/weekly/send", "http://evil.example", "to=").await.is_problem(403, "another site");
    running.server.stop().await.unwrap();
}
