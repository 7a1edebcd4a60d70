//! `greenroom tenants …`: straight to the accounts' database, as keys are made.

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use greenroom_chassis::Settings;
use greenroom_contracts::proto::internal::v1::{ImageList, Plan, SetTenantRequest, Tenant};

use super::keys;
use super::shown::{say, shown};
use crate::{Error, Platforms};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists tenants with their plans and limits.
    Ls,
    /// Changes a tenant's plan, or gives it terms of its own. Gateways know of it within a minute.
    Set(Box<Set>),
}

/// What of a tenant changes.
#[derive(Debug, Args)]
pub struct Set {
    /// Its name.
    name: String,
    /// free, standard, professional or enterprise.
    #[arg(long)]
    plan: Option<String>,
    /// Priority of its bots, lower is first; or `plan`.
    #[arg(long, value_name = "NUMBER|plan")]
    priority: Option<String>,
    /// Share of its turns in the queue; or `plan`.
    #[arg(long, value_name = "NUMBER|plan")]
    weight: Option<String>,
    /// Bots it may make in a day; `none` for any number, or `plan`.
    #[arg(long, value_name = "NUMBER|none|plan")]
    daily_limit: Option<String>,
    /// Bots it may have under way at once; `none` for any number, or `plan`.
    #[arg(long, value_name = "NUMBER|none|plan")]
    concurrency_limit: Option<String>,
    /// Processor that its bots' runners ask for, in thousandths; or `plan`: as for everybody.
    #[arg(long, value_name = "NUMBER|plan")]
    cpu_millis: Option<String>,
    /// Memory that they ask for, in MiB; or `plan`: as for everybody.
    #[arg(long, value_name = "NUMBER|plan")]
    memory_mb: Option<String>,
    /// Images its bots may name, with commas between them, * at an end for all that begin so; `none`, or `plan`: as for
    /// everybody (TENANT_IMAGES).
    #[arg(long, value_name = "IMAGES|none|plan")]
    images: Option<String>,
    /// When its day begins: an IANA name, as Europe/Berlin.
    #[arg(long)]
    time_zone: Option<String>,
}

/// A number, or the name of what is to be as planned.
fn term(
    option: &str,
    name: &str,
    given: Option<String>,
    may_be_none: bool,
    as_planned: &mut Vec<String>,
) -> Result<Option<u32>, Error> {
    match given.as_deref() {
        None => Ok(None),
        Some("plan") => {
            as_planned.push(name.to_owned());
            Ok(None)
        }
        Some("none") if may_be_none => Ok(Some(0)),
        Some(number) => match number.parse() {
            Ok(0) if may_be_none => Err(Error::Plain(format!("{option}: for any number say none"))),
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Error::Plain(format!("{option}: must be a number or one of the words of --help"))),
        },
    }
}

impl Set {
    fn request(self) -> Result<SetTenantRequest, Error> {
        let mut as_planned = Vec::new();
        let plan = self.plan.map(|plan| {
            let known = Plan::of_word(&plan).map(i32::from);
            known.ok_or_else(|| Error::Plain("--plan: must be free, standard, professional or enterprise".to_owned()))
        });
        let plan = plan.transpose()?;
        let images = match self.images.as_deref() {
            None => None,
            Some("plan") => {
                as_planned.push("images".to_owned());
                None
            }
            Some("none") => Some(ImageList::default()),
            Some(list) => Some(ImageList { images: list.split(',').map(|image| image.trim().to_owned()).collect() }),
        };
        let mut term = |option, name, given, may_be_none| term(option, name, given, may_be_none, &mut as_planned);
        Ok(SetTenantRequest {
            name: self.name,
            plan,
            priority: term("--priority", "priority", self.priority, false)?,
            weight: term("--weight", "weight", self.weight, false)?,
            daily_limit: term("--daily-limit", "daily_limit", self.daily_limit, true)?,
            concurrency_limit: term("--concurrency-limit", "concurrency_limit", self.concurrency_limit, true)?,
            cpu_millis: term("--cpu-millis", "cpu_millis", self.cpu_millis, false)?,
            memory_mb: term("--memory-mb", "memory_mb", self.memory_mb, false)?,
            time_zone: self.time_zone,
            images,
            as_planned,
        })
    }
}

impl Command {
    pub async fn run(self, settings: Settings, platforms: &Platforms) -> Result<(), Error> {
        let set = match self {
            Self::Ls => None,
            Self::Set(set) => Some(set.request()?),
        };
        let accounts = keys::accounts(settings, platforms).await?;
        let tenants = match set {
            None => accounts.list_tenants().await?,
            Some(set) => vec![accounts.set_tenant(set).await?],
        };
        say(table(&tenants));
        Ok(())
    }
}

/// What is a tenant's own has a star.
fn table(tenants: &[Tenant]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "NAME",
        "PLAN",
        "PRIORITY",
        "WEIGHT",
        "A DAY",
        "AT A TIME",
        "CPU",
        "MEMORY",
        "IMAGES",
        "TIME ZONE",
        "ID",
    ]);
    for tenant in tenants {
        let own = |name: &str, text: String| {
            let star = if tenant.own.iter().any(|own| own == name) { "*" } else { "" };
            format!("{text}{star}")
        };
        let limit = |limit: Option<u32>| limit.map_or_else(|| "any".to_owned(), |limit| limit.to_string());
        let size =
            |size: Option<u32>, unit: &str| size.map_or_else(|| "default".to_owned(), |size| format!("{size}{unit}"));
        table.add_row([
            shown(&tenant.name).into_owned(),
            tenant.plan().word().to_owned(),
            own("priority", tenant.priority.to_string()),
            own("weight", tenant.weight.to_string()),
            own("daily_limit", limit(tenant.daily_limit)),
            own("concurrency_limit", limit(tenant.concurrency_limit)),
            own("cpu_millis", size(tenant.cpu_millis, "m")),
            own("memory_mb", size(tenant.memory_mb, " MiB")),
            own("images", if tenant.images.is_empty() { "none".to_owned() } else { tenant.images.join(",") }),
            tenant.time_zone.clone(),
            tenant.id.clone(),
        ]);
    }
    table
}
