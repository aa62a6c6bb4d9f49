//! What surrounds a command while it runs: what it stands on, its limits, its network and its services.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use model::{Cause, CommandSpec, Refusal, Resources, ServiceSpec, Traffic};
use sandbox::{Child, Spec};

use crate::Shared;
use crate::config::Executor;
use crate::ground::{Ground, Rooted};
use crate::halt::Halt;
use crate::images::{self, Resolutions};
use crate::limits::Hold;
use crate::log::{Log, Voice};
use crate::mask::Masker;
use crate::reach::{Pool, Reach};
use crate::room::Room;
use crate::service::{self, Service};
use crate::supervise::Stopper;
use crate::workspace::{self, Furniture, WORKSPACE};

/// Refusals of the network that a note lists.
const REFUSALS_SHOWN: usize = 5;

/// What a stage is made from.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) agent: &'a Shared,
    pub(crate) command: &'a CommandSpec,
    pub(crate) resolved: &'a Resolutions,
    pub(crate) resources: &'a Resources,
    pub(crate) tenant: &'a str,
    pub(crate) networks: &'a Pool,
    pub(crate) room: &'a Room,
    /// Lower directories of the workspace, topmost first.
    pub(crate) lowers: &'a [PathBuf],
    pub(crate) stopper: &'a Stopper,
    pub(crate) masker: &'a Arc<Masker>,
    /// To say what it waits for.
    pub(crate) voice: Option<&'a Voice>,
    /// Where a service's log is written.
    pub(crate) log_of: &'a dyn Fn(&str) -> PathBuf,
}

/// What surrounds a command while it runs. Dropped, all of it ends.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) rooted: Option<Rooted>,
    pub(crate) hold: Hold,
    pub(crate) reach: Reach,
    services: Vec<Service>,
    /// What the services stand on: as long as this lives, nobody collects its layers.
    _beside: Vec<Option<Rooted>>,
}

impl Stage {
    /// Fetches images, makes group and network, starts the services and waits until they are ready.
    ///
    /// # Errors
    /// What is asked for is not to be had here, a service does not get ready, the attempt is stopped.
    pub(crate) fn set(scene: Scene<'_>) -> Result<Stage, Halt> {
        if scene.agent.config.executor == Executor::Process {
            let (hold, reach) = (Hold::none(), Reach::of_host());
            return Ok(Stage { rooted: None, hold, reach, services: Vec::new(), _beside: Vec::new() });
        }
        let hold = Hold::take(scene.agent, scene.tenant, scene.resources)?;
        let fetch = |resolved| images::fetch(resolved, scene.agent, scene.stopper, scene.voice);
        let rooted = scene.resolved.step.as_ref().map(fetch).transpose()?;
        let beside = scene.resolved.services.iter().map(|image| image.as_ref().map(fetch).transpose());
        let beside = beside.collect::<Result<Vec<_>, _>>()?;
        let reach = Reach::open(scene.command, scene.room, scene.agent.config.full_network, scene.networks)?;
        let mut stage = Stage { rooted, hold, reach, services: Vec::new(), _beside: Vec::new() };
        stage.start(scene, &beside)?;
        stage._beside = beside;
        Ok(stage)
    }

    pub(crate) fn ground<'a>(&'a self, agent: &'a Shared) -> Ground<'a> {
        Ground::of(self.rooted.as_ref(), agent.host())
    }

    /// All are started first, so that they get ready side by side.
    fn start(&mut self, scene: Scene<'_>, images: &[Option<Rooted>]) -> Result<(), Halt> {
        let each = || scene.command.services.iter().zip(images);
        for (spec, rooted) in each() {
            let sandbox = self.sandbox(scene, spec, rooted.as_ref(), None)?;
            let log = Log::create(&(scene.log_of)(&spec.id), None, scene.masker.clone());
            self.services.push(Service::start(&spec.id, sandbox, log)?);
        }
        let mut services = std::mem::take(&mut self.services);
        for (service, (spec, rooted)) in services.iter_mut().zip(each()) {
            let Some(net) = self.reach.net() else { continue };
            let check = |command: &str| -> Result<Child, Halt> {
                let sandbox = self.sandbox(scene, spec, rooted.as_ref(), Some(command))?;
                let failed =
                    |error| Cause::Service(format!("the check of service `{}` cannot be started: {error}", spec.id));
                Ok(sandbox.spawn().map_err(failed)?)
            };
            service.wait_ready(spec, net, scene.stopper, check)?;
        }
        self.services = services;
        Ok(())
    }

    /// The sandbox of a service, or of a command that asks it whether it is ready. It sees the workspace as the step will
    /// see it; what it writes there is its own and thrown away.
    fn sandbox(
        &self,
        scene: Scene<'_>,
        spec: &ServiceSpec,
        rooted: Option<&Rooted>,
        check: Option<&str>,
    ) -> Result<Spec, Halt> {
        let ground = Ground::of(rooted, scene.agent.host());
        let room = Room::fresh(workspace::work_dir(&scene.room.path, &format!("service-{}-", spec.id))?)?;
        let mut env: BTreeMap<String, String> = ground.env();
        env.insert("TMPDIR".into(), "/tmp".into());
        env.extend(self.reach.env());
        env.extend(spec.env.clone());
        let furniture = Furniture {
            room: &room,
            lowers: scene.lowers.to_vec(),
            caches: Vec::new(),
            ground,
            reach: &self.reach,
            hold: &self.hold,
            argv: argv(spec, ground, check)?,
            env,
            name: &spec.id,
        };
        let mut sandbox = furniture.spec()?;
        sandbox.cwd = match ground {
            Ground::Host(_) => WORKSPACE.into(),
            Ground::Image(_) => ground.work_dir().unwrap_or_else(|| "/".into()),
        };
        Ok(sandbox)
    }

    /// Ends services and network; tells what went through it, and what a person should know.
    pub(crate) fn strike(self, networks: &Pool) -> (Option<Traffic>, Vec<String>) {
        let mut notes = service::stop_all(self.services);
        let traffic = self.reach.close(networks);
        notes.extend(traffic.as_ref().and_then(refused));
        (traffic, notes)
    }
}

/// What the network refused, for a person; all of it is in the result.
fn refused(traffic: &Traffic) -> Option<String> {
    let one = |refusal: &Refusal| format!("{} ({})", refusal.what, refusal.why);
    let shown: Vec<String> = traffic.refused.iter().take(REFUSALS_SHOWN).map(one).collect();
    let more = (traffic.refused.len() - shown.len()) as u64 + traffic.refused_more;
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!shown.is_empty()).then(|| format!("its network refused {}{rest}", shown.join(", ")))
}

/// `cmd` by a shell, else what the image says.
fn argv(spec: &ServiceSpec, ground: Ground<'_>, check: Option<&str>) -> Result<Vec<String>, Halt> {
    if let Some(command) = check.or(spec.cmd.as_deref()) {
        return Ok(["sh", "-c", command].map(String::from).to_vec());
    }
    let own = ground.command();
    match own.is_empty() {
        false => Ok(own),
        true => {
            let why = format!("the image of service `{}` does not say what to run; give it a `cmd`", spec.id);
            Err(Cause::Service(why).into())
        }
    }
}

/// The process executor has nothing that could hold these.
pub(crate) fn refuse_without_sandbox(command: &CommandSpec) -> Result<(), Cause> {
    let refuse = |what: &str| {
        Err(Cause::Refused(format!("{what} need the sandbox; leave `--executor process` out, see `pace doctor`")))
    };
    match command {
        CommandSpec { image: Some(image), .. } => refuse(&format!("images (`image: {image}`)")),
        CommandSpec { services, .. } if !services.is_empty() => refuse("services"),
        CommandSpec { network: model::Network::Hosts(_), .. } => refuse("networks that are lists of hosts"),
        _ => Ok(()),
    }
}
