//! MCP: what a client can list, read and call. The only room that speaks rmcp. Holds no state between requests, asks
//! the database only as the caller of the request, and answers `initialize`, `server/discover` and `tools/list` from
//! memory.

mod audit;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod observed;
mod prompts;
mod resources;
mod schema_text;
mod search;
mod status;
mod tools;
mod written;

use std::pin::pin;
use std::sync::Arc;

use axum::http::request::Parts;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::tool::ToolCallContext;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, DiscoverResult,
    ErrorData, GetPromptRequestParams, GetPromptResponse, Icon, Implementation, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, MetaObject, PaginatedRequestParams,
    ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler};
use serde_json::json;

pub use status::CallStatus;
pub use written::respond;

use crate::config::LimitSettings;
use crate::db::Db;
use crate::domain::{Profile, SearchModel, SearchSource};
use crate::embedding::{Embedder, KeptVectors};
use crate::identity::{Caller, Refusal};
use observed::{Target, never, observed};

/// How long a client may keep what is the same for every caller: five minutes.
const SHARED_TTL_MS: u64 = 300_000;

/// How long a client may keep what one caller sees: one minute.
const CALLER_TTL_MS: u64 = 60_000;

/// Rowgate's icon, a PNG of 32 by 32.
const ICON: &str = include_str!("icon.base64");

/// The server as MCP sees it. Cloned for each request.
#[derive(Clone)]
pub struct McpServer(Arc<Shared>);

/// Search, where it is set up: whose vectors, and where.
pub struct Searching {
    source: SearchSource,
    model: SearchModel,
    vectors: KeptVectors,
}

impl Searching {
    /// `None` if the profile has no search, or does not know the embedder's model at its dimensions.
    pub fn new(profile: &Profile, embedder: Arc<dyn Embedder>) -> Option<Self> {
        let source = profile.search.clone()?;
        let of = embedder.model();
        let known = |model: &&SearchModel| model.name == of.name && model.dimensions == of.dimensions;
        let model = source.models.iter().find(known)?.clone();
        Some(Self { source, model, vectors: KeptVectors::of(embedder) })
    }
}

struct Shared {
    searching: Option<Searching>,
    profile: Profile,
    db: Db,
    limits: LimitSettings,
    log_sql: bool,
    routes: ToolRouter<McpServer>,
    tools: Vec<Tool>,
    config: ServerConfig,
}

impl McpServer {
    /// A server for one database and one profile.
    pub fn new(profile: Profile, db: Db, searching: Option<Searching>, limits: LimitSettings, log_sql: bool) -> Self {
        let (routes, tools) = tools::all(&profile, searching.as_ref());
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_prompts()
            .enable_completions()
            .build();
        let server_info = Implementation::new("rowgate", env!("CARGO_PKG_VERSION"))
            .with_title(&profile.title)
            .with_icons(vec![png(ICON)]);
        let config =
            ServerConfig::new(capabilities).with_server_info(server_info).with_instructions(&profile.instructions);
        Self(Arc::new(Shared { searching, profile, db, limits, log_sql, routes, tools, config }))
    }

    /// The database, for the health check.
    pub fn db(&self) -> &Db {
        &self.0.db
    }

    /// What every result of the stateless revisions carries; older clients never look.
    fn result_meta(&self, context: &RequestContext<RoleServer>) -> Option<MetaObject> {
        let stateless =
            context.protocol_version().is_some_and(|v| v.as_str() >= ProtocolVersion::V_2026_07_28.as_str());
        if !stateless {
            return None;
        }
        let info = &self.0.config.server_info;
        let info = json!({ "name": info.name, "title": info.title, "version": info.version });
        let mut meta = MetaObject::new();
        meta.insert("io.modelcontextprotocol/serverInfo".to_owned(), info);
        Some(meta)
    }
}

/// The caller that the HTTP floor found out about this request.
fn caller(context: &RequestContext<RoleServer>) -> Result<&Caller, Refusal> {
    let parts = context.extensions.get::<Parts>();
    match parts.and_then(|parts| parts.extensions.get::<Result<Caller, Refusal>>()) {
        Some(Ok(caller)) => Ok(caller),
        Some(Err(refusal)) => Err(refusal.clone()),
        None => Err(Refusal::Missing),
    }
}

/// Every list fits on one page, so there is no cursor that a client could have been given.
fn only_page(page: Option<PaginatedRequestParams>) -> Result<(), ErrorData> {
    match page.and_then(|page| page.cursor) {
        Some(_) => Err(ErrorData::invalid_params("There is no such cursor: the list has one page.", None)),
        None => Ok(()),
    }
}

fn png(base64: &str) -> Icon {
    Icon::new(format!("data:image/png;base64,{}", base64.trim()))
        .with_mime_type("image/png")
        .with_sizes(vec!["32x32".to_owned()])
}

impl ServerHandler for McpServer {
    fn get_info(&self) -> ServerConfig {
        self.0.config.clone()
    }

    async fn discover(&self, _: RequestContext<RoleServer>) -> Result<DiscoverResult, ErrorData> {
        let mut found =
            DiscoverResult::from_server_info(self.supported_protocol_versions().into_owned(), self.get_info());
        found.ttl_ms = SHARED_TTL_MS;
        found.cache_scope = CacheScope::Public;
        Ok(found)
    }

    async fn list_tools(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let work = pin!(async { only_page(page).map(|()| ListToolsResult::with_all_items(self.0.tools.clone())) });
        let list = observed(&context, "tools/list", Target::Nothing, never, work).await?;
        let mut list = list.with_ttl_ms(SHARED_TTL_MS).with_cache_scope(CacheScope::Public);
        list.meta = self.result_meta(&context);
        Ok(list)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.0.routes.get(name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if !self.0.routes.has_route(&request.name) {
            let tools: Vec<_> = self.0.tools.iter().map(|tool| tool.name.as_ref()).collect();
            let message = format!("There is no tool {:?}. The tools are: {}.", request.name, tools.join(", "));
            return Err(ErrorData::invalid_params(message, None));
        }
        let meta = self.result_meta(&context);
        let (about, name) = (context.clone(), request.name.clone());
        let failed = |response: &CallToolResponse| match response {
            CallToolResponse::Complete(result) => result.is_error == Some(true),
            _ => false,
        };
        let work = pin!(self.0.routes.call(ToolCallContext::new(self, request, context)));
        let response = observed(&about, "tools/call", Target::Tool(&name), failed, work).await?;
        Ok(match response {
            CallToolResponse::Complete(result) => CallToolResponse::Complete(result.with_meta(meta)),
            other => other,
        })
    }

    async fn list_prompts(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        only_page(page)?;
        let mut list = prompts::list(&self.0.profile).with_ttl_ms(SHARED_TTL_MS).with_cache_scope(CacheScope::Public);
        list.meta = self.result_meta(&context);
        Ok(list)
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let work = pin!(async { prompts::get(&self.0.profile, &request.name) });
        let mut prompt = observed(&context, "prompts/get", Target::Prompt(&request.name), never, work).await?;
        prompt.meta = self.result_meta(&context);
        Ok(prompt.into())
    }

    // Boxed, here and below, since every request of any method would carry the room for it.
    async fn list_resources(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        only_page(page)?;
        let mut work = Box::pin(resources::list(self, &context));
        let list = observed(&context, "resources/list", Target::Nothing, never, work.as_mut()).await?;
        let mut list = list.with_ttl_ms(CALLER_TTL_MS).with_cache_scope(CacheScope::Private);
        list.meta = self.result_meta(&context);
        Ok(list)
    }

    async fn list_resource_templates(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        only_page(page)?;
        let mut list = resources::templates().with_ttl_ms(SHARED_TTL_MS).with_cache_scope(CacheScope::Public);
        list.meta = self.result_meta(&context);
        Ok(list)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let mut work = Box::pin(resources::read(self, &context, &request.uri));
        let read = observed(&context, "resources/read", Target::Nothing, never, work.as_mut()).await?;
        let mut read = read.with_ttl_ms(CALLER_TTL_MS).with_cache_scope(CacheScope::Private);
        read.meta = self.result_meta(&context);
        Ok(read.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let mut work = Box::pin(resources::complete(self, &context, &request));
        let mut completed = observed(&context, "completion/complete", Target::Nothing, never, work.as_mut()).await?;
        completed.meta = self.result_meta(&context);
        Ok(completed)
    }
}
