//! Accounts: sessions, tokens, forged requests, guessing, roles.

use millstream_marketplace::accounts::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::market::PASSWORD;
use crate::on_both;

on_both! {
    async fn a_session_opens_and_ends(market: Market) {
        let ada = market.person("ada").await;
        let me = ada.get("/api/v1/account").await.expect(StatusCode::OK);
        assert_eq!(me.json["handle"], "ada");
        assert_eq!(me.json["role"], "consumer");
        let old = ada.cookie();
        ada.send(Method::DELETE, "/api/v1/session", Value::Null).await.expect(StatusCode::NO_CONTENT);
        let request = ada.client.get(format!("{}/api/v1/account", market.url)).header("cookie", old);
        ada.run(request).await.refused(401, "sign in at /sign-in");
    }

    async fn what_cannot_be_an_account_is_refused_with_the_fix(market: Market) {
        market.person("ada").await;
        let nobody = market.stranger();
        let try_ = |handle: &str, email: &str, password: &str| {
            let body = json!({ "handle": handle, "email": email, "password": password });
            let nobody = nobody.clone();
            async move { nobody.send(Method::POST, "/api/v1/accounts", body).await }
        };
        try_("Ada!", "b@example.org", PASSWORD).await.refused(400, "write 2 to 39 lower-case letters");
        try_("bob", "not an address", PASSWORD).await.refused(400, "write name@example.org");
        try_("bob", "b@example.org", "short").await.refused(400, "10 characters or more");
        try_("ada", "b@example.org", PASSWORD).await.refused(409, "choose another, or sign in");
        try_("bob", "ada@example.org", PASSWORD).await.refused(409, "choose another, or sign in");
    }

    async fn guessing_a_password_is_stopped_and_the_owner_gets_in_later(market: Market) {
        let ada = market.person("ada").await;
        for _ in 0..10 {
            ada.sign_in("a wrong password").await.refused(401, "do not fit");
        }
        let stopped = ada.sign_in("a wrong password").await;
        assert_eq!(stopped.header("retry-after"), "90");
        stopped.refused(429, "too many wrong passwords for this account; try again in 90 s");
        ada.sign_in(PASSWORD).await.refused(429, "try again");
        market.clock.advance(91_000);
        ada.sign_in(PASSWORD).await.expect(StatusCode::NO_CONTENT);
        // An account that is not there answers as one with a wrong password.
        let ghost = json!({ "email": "ghost@example.org", "password": PASSWORD });
        market.stranger().send(Method::POST, "/api/v1/session", ghost).await.refused(401, "do not fit");
    }

    async fn tokens_do_what_their_scopes_say_until_they_end(market: Market) {
        let ada = market.person("ada").await;
        let reads = ada.with_token(&["read"]).await;
        reads.get("/api/v1/account").await.expect(StatusCode::OK);
        let review = json!({ "slug": "mine", "title": "Mine", "agents": [] });
        reads.send(Method::PUT, "/api/v1/collections", review).await.refused(403, "has not the scope 'review'");
        let wider = json!({ "name": "wider", "scopes": ["publish"], "days": 1 });
        reads.send(Method::POST, "/api/v1/tokens", wider).await.refused(403, "sign in in a browser");
        let (stored,): (String,) =
            sqlx::query_as("SELECT token_sha256 FROM tokens").fetch_one(market.app.db.read()).await.unwrap();
        assert!(!stored.contains(reads.secret()) && stored.len() == 64, "only a hash is kept");
        let listed = ada.get("/api/v1/tokens").await.expect(StatusCode::OK);
        assert!(listed.json[0]["secret"].is_null());
        let id = listed.json[0]["id"].as_str().unwrap();

        // Another account cannot revoke it.
        let bob = market.person("bob").await;
        bob.send(Method::DELETE, &format!("/api/v1/tokens/{id}"), Value::Null).await.refused(404, "you have no token");
        market.clock.advance(31 * 86_400_000);
        reads.get("/api/v1/account").await.refused(401, "unknown, expired or revoked");
        ada.with_secret("mkt_nonsense").get("/api/v1/account").await.refused(401, "unknown, expired or revoked");
    }

    async fn another_site_cannot_make_a_browser_do_things(market: Market) {
        let ada = market.person("ada").await;
        let post = |site: Option<&str>, origin: Option<&str>| {
            let mut request = ada.client.post(format!("{}/account/publisher", market.url)).header("cookie", ada.cookie());
            if let Some(site) = site {
                request = request.header("sec-fetch-site", site);
            }
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            ada.run(request)
        };
        for (site, origin) in [
            (None, None),
            (Some("cross-site"), None),
            (Some("same-site"), None),
            (Some("none"), None),
            (None, Some("https://evil.example")),
            (None, Some("null")),
            (Some("cross-site"), Some(market.url.as_str())),
        ] {
            post(site, origin).await.refused(403, "does not come from a page of this marketplace");
        }
        post(None, Some(&market.url)).await.expect(StatusCode::SEE_OTHER);
        post(Some("same-origin"), None).await.expect(StatusCode::SEE_OTHER);
        // Signing somebody in to an account of another's choice is such a thing too.
        let who = json!({ "email": "ada@example.org", "password": PASSWORD });
        let request = ada.client.post(format!("{}/api/v1/session", market.url)).header("origin", "https://evil.example");
        let request = request.header("content-type", "application/json").body(who.to_string());
        ada.run(request).await.refused(403, "does not come from a page");
    }

    async fn a_new_password_ends_other_sessions(market: Market) {
        let (here, there) = (market.person("ada").await, market.again("ada").await);
        let change = |current: &str, new: &str| json!({ "current": current, "new": new });
        let path = "/api/v1/account/password";
        here.send(Method::PUT, path, change("wrong password", "0123456789")).await.refused(403, "the current password is another");
        here.send(Method::PUT, path, change(PASSWORD, "short")).await.refused(400, "10 characters or more");
        here.with_token(&["read"]).await.send(Method::PUT, path, change(PASSWORD, "0123456789")).await.refused(403, "a token cannot");
        there.get("/api/v1/account").await.expect(StatusCode::OK);
        let done = here.form("/account/password", &[("current", PASSWORD), ("new", "0123456789")]).await;
        assert_eq!(done.expect(StatusCode::SEE_OTHER).header("location"), "/account?done=saved");
        here.get("/api/v1/account").await.expect(StatusCode::OK);
        there.get("/api/v1/account").await.expect(StatusCode::UNAUTHORIZED);
        there.sign_in(PASSWORD).await.refused(401, "do not fit");
        there.sign_in("0123456789").await.expect(StatusCode::NO_CONTENT);
        // Guesses are counted with those of signing in.
        for _ in 0..10 {
            here.send(Method::PUT, path, change("a guess at it", "0123456789")).await;
        }
        here.send(Method::PUT, path, change("0123456789", "9876543210")).await.refused(429, "wrong passwords");
    }

    async fn roles_are_given_by_admins_and_written_down(market: Market) {
        let root = market.person_with("root", Role::Admin).await;
        let ada = market.person("ada").await;
        let role = json!({ "role": "moderator" });
        ada.send(Method::PUT, "/api/v1/accounts/ada/role", role.clone()).await.refused(403, "needs the role admin");
        root.send(Method::PUT, "/api/v1/accounts/ada/role", role).await.expect(StatusCode::NO_CONTENT);
        ada.get("/api/v1/queue").await.expect(StatusCode::OK);
        ada.get("/api/v1/audit").await.refused(403, "needs the role admin");
        let audit = root.get("/api/v1/audit").await.expect(StatusCode::OK);
        assert_eq!(audit.json[0]["action"], "role.granted");
        assert_eq!(audit.json[0]["detail"], "moderator");

        // Found by who, what and to whom; a hundred at a time; `%` and `_` are letters like others.
        let found = async |query: &str| {
            let answer = root.get(&format!("/api/v1/audit?{query}")).await.expect(StatusCode::OK).json;
            answer.as_array().unwrap().clone()
        };
        assert_eq!(found("who=root&action=role.&subject=ada").await.len(), 1);
        assert!(found("who=ada&action=role.").await.is_empty() && found("action=role%25").await.is_empty());
        assert!(found("action=role_granted").await.is_empty());
        for _ in 0..101 {
            root.send(Method::PUT, "/api/v1/accounts/ada/role", json!({ "role": "publisher" })).await;
        }
        let newest = found("action=role.").await;
        let older = found(&format!("action=role.&before={}", newest[99]["id"].as_str().unwrap())).await;
        assert_eq!((newest.len(), newest[0]["who"].as_str()), (100, Some("root")));
        assert!(!older.is_empty() && older.iter().all(|e| !newest.contains(e)), "{older:?}");
        ada.page("/audit").await.expect(StatusCode::FORBIDDEN);
        let page = root.page("/audit?action=role.&subject=ada").await.expect(StatusCode::OK).text;
        assert!(page.contains("role.granted") && page.contains("rel=\"next\""), "{page}");
    }
}
