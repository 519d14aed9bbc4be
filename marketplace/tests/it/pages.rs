//! Pages, as browsers without scripts see them.

use millstream_marketplace::accounts::Role;
use reqwest::StatusCode;

use crate::market::{PASSWORD, manifest, package};
use crate::on_both;

on_both! {
    async fn from_sign_up_to_review_without_scripts(market: Market) {
        let acme = market.person_with("acme", Role::Publisher).await;
        let mo = market.person_with("mo", Role::Moderator).await;
        for version in ["1.0.0", "1.1.0"] {
            market.publish(&acme, &mo, "acme/linter", version).await;
        }
        let nobody = market.stranger();
        for path in ["/", "/search", "/search?q=linter", "/categories/testing-qa", "/agents/acme/linter", "/collections", "/sign-in", "/sign-up"] {
            let page = nobody.page(path).await.expect(StatusCode::OK);
            assert!(page.text.starts_with("<!DOCTYPE html>") && page.text.contains("lang=\"en\""), "{path}");
            assert!(page.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        }
        let to_sign_in = nobody.page("/account").await.expect(StatusCode::SEE_OTHER);
        assert_eq!(to_sign_in.header("location"), "/sign-in?next=/account");
        let wrong = nobody.form("/sign-in", &[("email", "x@example.org"), ("password", "wrong wrong")]).await;
        assert!(wrong.expect(StatusCode::UNAUTHORIZED).text.contains("do not fit"));

        let ada = market.person("ada").await;
        let done = ada.form("/agents/acme/linter/install", &[("version", "1.0.0")]).await.expect(StatusCode::SEE_OTHER);
        assert_eq!(done.header("location"), "/agents/acme/linter?done=installed");
        let page = ada.page("/agents/acme/linter").await.text;
        assert!(page.contains("✓ Version 1.0.0 is installed") && page.contains("Upgrade to 1.1.0"));
        ada.form("/agents/acme/linter/install", &[]).await.expect(StatusCode::SEE_OTHER);
        ada.form("/agents/acme/linter/rollback", &[("version", "1.0.0")]).await.expect(StatusCode::SEE_OTHER);
        let fields = [("stars", "4"), ("text", "Does <b>what</b> it says")];
        ada.form("/agents/acme/linter/review", &fields).await.expect(StatusCode::SEE_OTHER);
        let page = nobody.page("/agents/acme/linter").await.text;
        assert!(page.contains("Does &lt;b&gt;what&lt;/b&gt; it says"), "text is shown, not obeyed");
        let token = ada.form("/account/tokens", &[("name", "t"), ("install", "on"), ("days", "9")]).await.expect(StatusCode::OK);
        assert!(token.text.contains("shown this once: <code>mkt_"));
        ada.form("/account/collections", &[("slug", "mine"), ("title", "Mine")]).await.expect(StatusCode::SEE_OTHER);
        assert!(nobody.page("/collections/ada/mine").await.text.contains("The agent acme/linter"));
        ada.page("/queue").await.expect(StatusCode::FORBIDDEN);
        let missing = nobody.page("/agents/acme/none").await.expect(StatusCode::NOT_FOUND);
        assert!(missing.text.contains("no agent &#39;acme/none&#39;") || missing.text.contains("no agent 'acme/none'"));
        let out = ada.form("/sign-out", &[]).await.expect(StatusCode::SEE_OTHER);
        assert!(out.header("set-cookie").contains("Max-Age=0"));
    }

    async fn a_publisher_and_a_moderator_meet_on_pages(market: Market) {
        let acme = market.person_with("acme", Role::Publisher).await;
        let mo = market.person_with("mo", Role::Moderator).await;
        let boundary = "frontier";
        let mut body = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"package\"; filename=\"a.tgz\"\r\n\r\n").into_bytes();
        body.extend(package(&manifest("acme/linter", "1.0.0"), &[]));
        body.extend(format!("\r\n--{boundary}--\r\n").bytes());
        let request = acme.request(reqwest::Method::POST, "/publish").header("accept", "text/html");
        let request = request.header("content-type", format!("multipart/form-data; boundary={boundary}")).body(body);
        assert!(acme.run(request).await.expect(StatusCode::OK).text.contains("is in the queue"));
        let queue = mo.page("/queue").await.expect(StatusCode::OK).text;
        let id = queue.split("action=\"/queue/").nth(1).unwrap().split('"').next().unwrap().to_string();
        let done = mo.form(&format!("/queue/{id}"), &[("reason", "Fine"), ("approve", "true")]).await;
        assert_eq!(done.expect(StatusCode::SEE_OTHER).header("location"), "/queue?done=decided");
        assert!(acme.page("/publish").await.text.contains("approved"));
        let base = "/publish/agents/acme/linter";
        assert!(acme.page(base).await.text.contains("What its page says"));
        let fields = [("title", "Linter"), ("summary", "Reads code and tells what is odd."), ("tags", "lint, code"),
            ("repository", ""), ("screenshots", ""), ("readme", "# New\n")];
        acme.form(base, &fields).await.expect(StatusCode::SEE_OTHER);
        acme.form(&format!("{base}/yank"), &[("version", "1.0.0"), ("reason", "Bad")]).await.expect(StatusCode::SEE_OTHER);
        let page = market.stranger().page("/agents/acme/linter").await.text;
        assert!(page.contains("withdrawn: Bad") && page.contains("<h3>New</h3>"));
        mo.page(base).await.expect(StatusCode::NOT_FOUND);
    }

    async fn after_signing_in_nobody_is_sent_elsewhere(market: Market) {
        let ada = market.person("ada").await;
        for next in ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"] {
            let fields = [("email", "ada@example.org"), ("password", PASSWORD), ("next", next)];
            assert_eq!(ada.form("/sign-in", &fields).await.expect(StatusCode::SEE_OTHER).header("location"), "/", "{next}");
        }
    }
}
