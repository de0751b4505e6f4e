//! One tenant of one of Microsoft's clouds: where it publishes what it signs with, and what it calls itself in tokens.

use std::net::IpAddr;

use reqwest::Url;

use super::EntraSettingsError;

/// Of all clouds, this one alone may name itself [`PUBLIC_V1`] in tokens.
const PUBLIC_CLOUD: &str = "https://login.microsoftonline.com";
const PUBLIC_V1: &str = "https://sts.windows.net";

/// Where to ask about a tenant.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    /// Scheme, host and port.
    authority: String,
    tenant: Tenant,
}

/// A tenant as a setting names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tenant {
    Id(TenantId),
    Domain(String),
}

/// A tenant's UUID, in small letters as in tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TenantId(String);

/// How a tenant names itself in tokens, and in the keys that it signs them with.
#[derive(Debug)]
pub(super) struct Issuer {
    tenant: TenantId,
    v2: String,
    v1: Option<String>,
}

impl Directory {
    /// Reads both from settings.
    pub(super) fn parse(authority: &str, tenant: &str) -> Result<Self, EntraSettingsError> {
        let authority = origin(authority).ok_or(EntraSettingsError::Authority)?;
        let tenant = Tenant::parse(tenant).ok_or(EntraSettingsError::Tenant)?;
        Ok(Self { authority, tenant })
    }

    pub(super) fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Whether it is on this machine: plain HTTP is for nothing else.
    pub(super) fn is_here(&self) -> bool {
        self.authority.starts_with("http://")
    }

    /// Where the keys are.
    pub(super) fn keys(&self) -> String {
        format!("{}/{}/discovery/v2.0/keys", self.authority, self.tenant.as_str())
    }

    /// Where it says which tenant a domain belongs to: OpenID Connect Discovery 1.0, section 4.
    pub(super) fn configuration(&self) -> String {
        format!("{}/{}/v2.0/.well-known/openid-configuration", self.authority, self.tenant.as_str())
    }

    /// How a tenant of this authority names itself.
    pub(super) fn issuer(&self, tenant: TenantId) -> Issuer {
        let v1 = (self.authority == PUBLIC_CLOUD).then(|| format!("{PUBLIC_V1}/{}/", tenant.0));
        Issuer { v2: format!("{}/{}/v2.0", self.authority, tenant.0), v1, tenant }
    }

    /// The issuer of which a configuration speaks, if it is a tenant of this authority's.
    pub(super) fn issuer_named(&self, text: &str) -> Option<Issuer> {
        let id = text.strip_prefix(self.authority.as_str())?.strip_prefix('/')?.strip_suffix("/v2.0")?;
        Some(self.issuer(TenantId::parse(id)?))
    }
}

impl Tenant {
    fn parse(text: &str) -> Option<Self> {
        if let Some(id) = TenantId::parse(text) {
            return Some(Self::Id(id));
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let fits = text.len() <= 253 && text.contains('.') && text.split('.').all(label);
        fits.then(|| Self::Domain(text.to_ascii_lowercase()))
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Id(id) => &id.0,
            Self::Domain(domain) => domain,
        }
    }
}

impl TenantId {
    /// Reads a UUID, RFC 9562 section 4.
    fn parse(text: &str) -> Option<Self> {
        let lengths = text.split('-').map(str::len);
        let fits = lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        fits.then(|| Self(text.to_ascii_lowercase()))
    }
}

impl Issuer {
    /// Whether a token with this `iss` and this `tid` is from here.
    pub(super) fn issued(&self, iss: &str, tid: Option<&str>) -> bool {
        (iss == self.v2 || self.v1.as_deref() == Some(iss)) && tid == Some(self.tenant.0.as_str())
    }

    /// Whether a key that is published for this issuer may sign for here. Entra publishes the keys of personal accounts
    /// among those of tenants; it writes `{tenantid}` where a key is for all of those.
    pub(super) fn may_sign_with(&self, key_issuer: &str) -> bool {
        key_issuer.replace("{tenantid}", &self.tenant.0) == self.v2
    }
}

/// Scheme, host and port of an address that has nothing else. Over plain HTTP anybody on the way could put in keys.
fn origin(authority: &str) -> Option<String> {
    let url = Url::parse(authority).ok()?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let more = !url.username().is_empty() || url.password().is_some() || url.query().or(url.fragment()).is_some();
    let fits = !more && url.path() == "/" && (url.scheme() == "https" || url.scheme() == "http" && here);
    fits.then(|| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "8f9c1b1e-6a3a-4d0f-9d53-0e7cf5a4b1d2";

    #[test]
    fn an_authority_is_a_host() {
        for (text, origin) in [
            ("https://login.microsoftonline.com", "https://login.microsoftonline.com"),
            ("https://Login.MicrosoftOnline.com:443/", "https://login.microsoftonline.com"),
            ("https://login.microsoftonline.us", "https://login.microsoftonline.us"),
            ("http://127.0.0.1:81/", "http://127.0.0.1:81"),
            ("http://[::1]:81", "http://[::1]:81"),
            ("http://localhost:81", "http://localhost:81"),
        ] {
            let directory = Directory::parse(text, ID).unwrap();
            assert_eq!(directory.keys(), format!("{origin}/{ID}/discovery/v2.0/keys"));
        }
        for text in [
            "",
            "login.microsoftonline.com",
            "http://login.microsoftonline.com",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
            "https://login.microsoftonline.com/common",
            "https://user@login.microsoftonline.com",
            "https://:word@login.microsoftonline.com",
            "https://login.microsoftonline.com/?a",
            "https://login.microsoftonline.com/#a",
        ] {
            assert_eq!(Directory::parse(text, ID).unwrap_err(), EntraSettingsError::Authority, "{text}");
        }
    }

    #[test]
    fn a_tenant_is_an_id_or_a_domain() {
        assert_eq!(Tenant::parse(&ID.to_uppercase()), Some(Tenant::Id(TenantId(ID.into()))));
        assert_eq!(Tenant::parse("Contoso.OnMicrosoft.com"), Some(Tenant::Domain("contoso.onmicrosoft.com".into())));
        let long = format!("{}.com", "a".repeat(64));
        for text in [
            "",
            "common",
            "organizations",
            "consumers",
            "8f9c1b1e6a3a4d0f9d530e7cf5a4b1d2",
            "8f9c1b1e-6a3a-4d0f-9d53-0e7cf5a4b1dg",
            "../common",
            "a..com",
            ".com",
            "a.com.",
            "-a.com",
            "a-.com",
            "a.com/b",
            "a.com?b",
            "ä.com",
            "a b.com",
            &long,
            &["a"; 128].join("."),
        ] {
            assert_eq!(Tenant::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_issuer_is_one_tenant() {
        let public = Directory::parse("https://login.microsoftonline.com", ID).unwrap();
        let issuer = public.issuer(TenantId(ID.into()));
        let v2 = format!("https://login.microsoftonline.com/{ID}/v2.0");
        let v1 = format!("https://sts.windows.net/{ID}/");
        let other = "9188040d-6c67-4c5b-b112-36a304b66dad";
        assert!(issuer.issued(&v2, Some(ID)) && issuer.issued(&v1, Some(ID)));
        for iss in [&v2, &v1] {
            assert!(!issuer.issued(iss, None) && !issuer.issued(iss, Some(other)) && !issuer.issued(iss, Some("")));
            assert!(!issuer.issued(&iss.replace(ID, other), Some(ID)));
            assert!(!issuer.issued(&format!("{iss}/"), Some(ID)) && !issuer.issued("", Some(ID)));
            assert!(!issuer.issued(iss.trim_end_matches('/'), Some(ID)) || iss == &v2);
        }
        // Another cloud has no tokens of the first version.
        let government = Directory::parse("https://login.microsoftonline.us", ID).unwrap().issuer(TenantId(ID.into()));
        assert!(!government.issued(&v1, Some(ID)) && !government.issued(&v2, Some(ID)));
        assert!(government.issued(&format!("https://login.microsoftonline.us/{ID}/v2.0"), Some(ID)));

        assert!(issuer.may_sign_with(&v2) && issuer.may_sign_with("https://login.microsoftonline.com/{tenantid}/v2.0"));
        assert!(!issuer.may_sign_with(&v2.replace(ID, other)));
        assert!(!issuer.may_sign_with("https://login.microsoftonline.us/{tenantid}/v2.0"));
    }

    #[test]
    fn a_configuration_names_a_tenant_of_its_authority() {
        let directory = Directory::parse("https://login.microsoftonline.com", "contoso.com").unwrap();
        let issuer = directory.issuer_named(&format!("https://login.microsoftonline.com/{ID}/v2.0")).unwrap();
        assert_eq!(issuer.tenant, TenantId(ID.into()));
        for text in [
            "",
            "https://login.microsoftonline.com/{tenantid}/v2.0",
            "https://login.microsoftonline.com/contoso.com/v2.0",
            &format!("https://login.microsoftonline.com/{ID}"),
            &format!("https://login.microsoftonline.com{ID}/v2.0"),
            &format!("https://login.microsoftonline.us/{ID}/v2.0"),
        ] {
            assert!(directory.issuer_named(text).is_none(), "{text}");
        }
    }
}
