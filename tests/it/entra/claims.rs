//! What a token claims: for whom it is and of which tenant, when it is good, what it permits, and which principals it
//! stands for.

use axum::http::StatusCode;
use rowgate::identity::{EntraRefusal, EntraSettings, EntraVerifier};
use serde_json::{Value, json};

use super::{DOMAIN, Entra, NEW, OBJECT, OLD, OTHER_TENANT, Reply, TENANT, names, now, refused, retry_after};

#[tokio::test]
async fn a_users_token() {
    let entra = Entra::start(Reply::Keys(vec![NEW.jwk(), OLD.jwk()])).await;
    let verifier = entra.verifier();
    assert_eq!(entra.requests(), 0);
    assert_eq!(names(&verifier, &OLD.token(&entra.claims())).await.unwrap(), [OBJECT]);
    assert_eq!(names(&verifier, &NEW.token(&entra.claims())).await.unwrap(), [OBJECT]);
    assert_eq!(*entra.asked.borrow(), [format!("/{TENANT}/discovery/v2.0/keys")]);
    assert_eq!(verifier.scopes(), ["Rows.Read", "Rows.Write"]);

    // As RFC 9068 has it, and for several audiences.
    let token = OLD.token_with(&json!({"typ": "at+jwt", "alg": "RS256", "kid": OLD.id}), &entra.claims());
    assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT]);
    let token = entra.changed(|c| c["aud"] = json!(["https://graph.microsoft.com", "api://rowgate"]));
    assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT]);
}

#[tokio::test]
async fn groups_and_roles() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let verifier = entra.verifier();
    let token = entra.changed(|c| {
        c["groups"] =
            json!(["93e8f556-8661-4955-87b6-890bc043c30f", "not one", 7, "fc781505-18ef-4a31-a7d5-7d931d7b857e"]);
        c["roles"] = json!(["Manager", "Rows.Read.All"]);
    });
    let all = [
        OBJECT,
        "group:93e8f556-8661-4955-87b6-890bc043c30f",
        "group:fc781505-18ef-4a31-a7d5-7d931d7b857e",
        "role:Manager",
    ];
    assert_eq!(names(&verifier, &token).await.unwrap(), all);

    let token = entra.changed(|c| {
        c["_claim_names"] = json!({"groups": "src1"});
        c["_claim_sources"] = json!({"src1": {"endpoint": format!("http://{}/groups", entra.address)}});
    });
    assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT]);
    let token = entra.changed(|c| c["hasgroups"] = json!(true));
    assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT]);
    assert_eq!(entra.requests(), 1);
}

#[tokio::test]
async fn tokens_for_others_and_of_others() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let verifier = entra.verifier();
    for aud in [json!("https://graph.microsoft.com"), json!(["a", "b"]), json!([]), json!(""), json!("api://rowgate/")]
    {
        let refusal = refused(&verifier, &entra.changed(|c| c["aud"] = aud)).await;
        assert_eq!(refusal, EntraRefusal::Audience);
        assert_eq!((refusal.status(), refusal.code()), (StatusCode::UNAUTHORIZED, Some("invalid_token")));
    }
    for iss in [
        format!("http://{}/{OTHER_TENANT}/v2.0", entra.address),
        format!("http://{}/{TENANT}", entra.address),
        format!("https://{}/{TENANT}/v2.0", entra.address),
        format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
        format!("https://sts.example.com/{TENANT}/v2.0"),
        // Tokens of the first version are the public cloud's.
        format!("https://sts.windows.net/{TENANT}/"),
    ] {
        assert_eq!(refused(&verifier, &entra.changed(|c| c["iss"] = json!(iss))).await, EntraRefusal::Issuer);
    }
    for tid in [json!(OTHER_TENANT), json!(null), json!("")] {
        assert_eq!(refused(&verifier, &entra.changed(|c| c["tid"] = tid)).await, EntraRefusal::Issuer);
    }
}

#[tokio::test]
async fn when_a_token_is_good() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let verifier = entra.verifier();
    let now = now();
    for (claim, at, refusal) in [
        ("exp", now - 3600, Some(EntraRefusal::Expired)),
        ("exp", now - 60, Some(EntraRefusal::Expired)),
        // Half of the leeway, lest a slow machine be at its end.
        ("exp", now - 30, None),
        ("nbf", now + 30, None),
        ("nbf", now + 600, Some(EntraRefusal::NotYetValid)),
        ("iat", now + 30, None),
        ("iat", now + 600, Some(EntraRefusal::NotYetValid)),
    ] {
        let outcome = names(&verifier, &entra.changed(|c| c[claim] = json!(at))).await;
        assert_eq!(outcome.err(), refusal, "{claim} {at}");
    }
    for exp in [json!(null), json!("never"), json!((now + 3600).to_string()), json!(-1), json!({})] {
        let refusal = refused(&verifier, &entra.changed(|c| c["exp"] = exp)).await;
        assert_eq!(refusal, EntraRefusal::Malformed("its claims are not those of an access token"));
    }
    let token = entra.changed(|c| drop(c.as_object_mut().unwrap().remove("exp")));
    assert!(matches!(refused(&verifier, &token).await, EntraRefusal::Malformed(_)));
}

#[tokio::test]
async fn what_a_token_permits() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let verifier = entra.verifier();
    let user = |scp: Value, roles: Value| entra.changed(|c| (c["scp"], c["roles"]) = (scp, roles));
    for scp in ["openid", "", "Rows.Read.All", "rows.read"] {
        let refusal = refused(&verifier, &user(json!(scp), json!(["Rows.Read.All"]))).await;
        assert_eq!(refusal, EntraRefusal::InsufficientScope);
        assert_eq!((refusal.status(), refusal.code()), (StatusCode::FORBIDDEN, Some("insufficient_scope")));
    }
    // A user's ID token: the same audience, no scope, the user's roles.
    assert_eq!(refused(&verifier, &user(json!(null), json!(["Rows.Read.All"]))).await, EntraRefusal::InsufficientScope);

    let application = |roles: Value| {
        entra.changed(|c| {
            for claim in ["scp", "name", "preferred_username"] {
                c.as_object_mut().unwrap().remove(claim);
            }
            (c["sub"], c["roles"]) = (json!(OBJECT), roles);
        })
    };
    assert_eq!(
        names(&verifier, &application(json!(["Other", "Rows.Read.All"]))).await.unwrap(),
        [OBJECT, "role:Other"]
    );
    for roles in [json!(null), json!([]), json!(["Other"]), json!(["Rows.Read"])] {
        assert_eq!(refused(&verifier, &application(roles)).await, EntraRefusal::InsufficientScope);
    }
    let token = entra.changed(|c| (c["idtyp"], c["roles"]) = (json!("app"), json!(["Rows.Read.All"])));
    assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT]);
    let token = entra.changed(|c| c["idtyp"] = json!("app"));
    assert_eq!(refused(&verifier, &token).await, EntraRefusal::InsufficientScope);

    for oid in [json!(null), json!("a.b"), json!("role:Manager"), json!("")] {
        let refusal = refused(&verifier, &entra.changed(|c| c["oid"] = oid)).await;
        assert_eq!(refusal, EntraRefusal::Malformed("it has no object id (`oid`)"));
    }
}

#[tokio::test]
async fn a_tenant_by_its_domain() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let settings = || EntraSettings { tenant: DOMAIN.to_uppercase(), ..entra.settings() };
    let verifier = EntraVerifier::new(settings()).unwrap();
    assert_eq!(names(&verifier, &OLD.token(&entra.claims())).await.unwrap(), [OBJECT]);
    let asked =
        ["v2.0/.well-known/openid-configuration", "discovery/v2.0/keys"].map(|path| format!("/{DOMAIN}/{path}"));
    assert_eq!(*entra.asked.borrow(), asked);
    // Only the tenant that the domain belongs to.
    let other = format!("http://{}/{OTHER_TENANT}/v2.0", entra.address);
    let token = entra.changed(|c| (c["iss"], c["tid"]) = (json!(other), json!(OTHER_TENANT)));
    assert_eq!(refused(&verifier, &token).await, EntraRefusal::Issuer);
    let token = entra.changed(|c| c["iss"] = json!(format!("http://{}/{DOMAIN}/v2.0", entra.address)));
    assert_eq!(refused(&verifier, &token).await, EntraRefusal::Issuer);

    for issuer in
        ["", "https://login.microsoftonline.com/{tenantid}/v2.0", &format!("https://sts.windows.net/{TENANT}/")]
    {
        *entra.issuer.lock().unwrap() = issuer.to_owned();
        let verifier = EntraVerifier::new(settings()).unwrap();
        assert_eq!(retry_after(&refused(&verifier, &OLD.token(&entra.claims())).await), 5);
    }
}
