//! The database of `dev`: its folder, its passwords, and the two roles that it is reached by besides the superuser: an
//! administrator with no more rights than a cloud gives one, and the login role of the request path.

use std::fs::{self, File};
use std::path::Path;

use rand::TryRng;
use rand::rngs::SysRng;
use tokio_postgres::Config;

use super::cluster::{Cluster, ClusterError, Durability, make_folder, write_private};
use super::wheel::at;
use super::{DevError, SigningKey};
use crate::db::Tls;
use crate::db::admin::{Admin, AdminError};

const ADMINISTRATOR: &str = "rowgate_admin";

/// The passwords of a data folder.
pub struct Secrets {
    /// Of `postgres`.
    pub superuser: String,
    administrator: String,
    app: String,
    claim_key: String,
}

/// How to reach a database as its administrator and as the login role.
pub struct DevDatabase {
    administrator: Config,
    tls: Tls,
    /// Of `rowgate_app`.
    pub app_password: String,
    /// What signs claims, `<id>:<base64>`.
    pub claim_key: String,
}

impl Secrets {
    /// New ones.
    pub fn generate() -> Result<Self, DevError> {
        Ok(Self {
            superuser: password()?,
            administrator: password()?,
            app: password()?,
            claim_key: SigningKey::generate("dev").map_err(DevError::Random)?,
        })
    }

    /// Those of a data folder; new ones for a new folder.
    pub(super) fn of_folder(folder: &Path) -> Result<Self, DevError> {
        let path = folder.join("secrets");
        if let Ok(text) = fs::read_to_string(&path) {
            let mut lines = text.lines().map(str::to_owned);
            if let (Some(superuser), Some(administrator), Some(app), Some(claim_key)) =
                (lines.next(), lines.next(), lines.next(), lines.next())
            {
                return Ok(Self { superuser, administrator, app, claim_key });
            }
        }
        let secrets = Self::generate()?;
        let Self { superuser, administrator, app, claim_key } = &secrets;
        at(&path, write_private(&path, &format!("{superuser}\n{administrator}\n{app}\n{claim_key}\n")))
            .map_err(ClusterError::from)?;
        Ok(secrets)
    }
}

impl DevDatabase {
    /// A database of our own server, made unless it is there, with what only a superuser can do done.
    pub async fn of_cluster(cluster: &Cluster, name: &str, secrets: &Secrets) -> Result<Self, DevError> {
        let superuser = Admin::connect(&cluster.superuser("postgres")).await?;
        superuser.create_database(name).await?;
        superuser.make_administrator(ADMINISTRATOR, &secrets.administrator, name).await?;
        Admin::connect(&cluster.superuser(name)).await?.create_vector_extension().await?;
        Ok(Self {
            administrator: cluster.login(ADMINISTRATOR, &secrets.administrator, name),
            tls: Tls::default(),
            app_password: secrets.app.clone(),
            claim_key: secrets.claim_key.clone(),
        })
    }

    /// The database of a server that is not ours.
    pub(super) fn of_another(administrator: Config, tls: Tls) -> Result<Self, DevError> {
        let Secrets { app, claim_key, .. } = Secrets::generate()?;
        Ok(Self { administrator, tls, app_password: app, claim_key })
    }

    /// A connection as the administrator.
    pub async fn admin(&self) -> Result<Admin, AdminError> {
        Admin::connect_with(&self.administrator, &self.tls).await
    }

    /// How the request path connects: the same server and database, as `rowgate_app`.
    pub fn app(&self) -> Config {
        let mut config = self.administrator.clone();
        config.user("rowgate_app").password(&self.app_password);
        config
    }
}

/// Takes a data folder for this process, making it first if it is new.
pub(super) fn lock(folder: &Path) -> Result<File, DevError> {
    make_folder(folder, Durability::Kept)?;
    let path = folder.join("lock");
    let file = at(&path, File::create(&path)).map_err(ClusterError::from)?;
    file.try_lock().map_err(|_| DevError::Locked(folder.to_owned()))?;
    Ok(file)
}

/// Empties a data folder that is locked.
pub(super) fn remove(folder: &Path) -> Result<(), DevError> {
    for name in ["pgdata", "pgdata.new"] {
        let path = folder.join(name);
        if path.exists() {
            at(&path, fs::remove_dir_all(&path)).map_err(ClusterError::from)?;
        }
    }
    Ok(())
}

fn password() -> Result<String, DevError> {
    let mut bytes = [0; 24];
    SysRng.try_fill_bytes(&mut bytes).map_err(DevError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
