//! What came in, and who did what.

use std::sync::Arc;

use access::{Action, Who};
use model::ProjectId;
use store::{Audited, Batch, Delivery, DeliveryRow, Sequenced};

use super::{Page, allowed, bounded, may_server, number, shown};
use crate::Shared;
use crate::authentication::off;
use crate::clock::now;
use crate::problem::Problem;

/// Deliveries of a project, newest first.
///
/// # Errors
/// They may not be seen.
pub async fn deliveries(
    shared: &Arc<Shared>,
    who: &Who,
    project: &str,
    after: &str,
    max: usize,
) -> Result<Page<Sequenced<DeliveryRow>>, Problem> {
    allowed(shared, who, Action::SeeDeliveries, project).await?;
    let (shared, id, before, max) = (shared.clone(), ProjectId::new(project), number(after)?, bounded(max));
    off(move || {
        let read = shared.store.deliveries(Some(&id), before, max + 1)?;
        Ok(Page::cut(read, max, |row| row.sequence.to_string()))
    })
    .await
}

/// Has a delivery looked at again, as if the forge had sent it once more. Returns the id of the new one.
///
/// # Errors
/// It may not be done, or there is no such delivery.
pub async fn redeliver(shared: &Arc<Shared>, who: &Who, project: &str, id: &str) -> Result<String, Problem> {
    allowed(shared, who, Action::Redeliver, project).await?;
    let (shared, who, project, id) = (shared.clone(), who.clone(), project.to_owned(), id.to_owned());
    off(move || {
        let gone = || Problem::not_found(format!("there is no delivery `{}` of this project", shown(&id)));
        let old = shared.store.delivery(&id)?.map(|(old, _)| old);
        let old = old.filter(|old| old.project.as_str() == project).ok_or_else(gone)?;
        let first = old.id.split("/again-").next().unwrap_or_default();
        let fresh = Delivery { id: format!("{first}/again-{}", access::id()), at: now(), ..old };
        let new_id = fresh.id.clone();
        let changes = vec![store::Change::note(now(), &who.name, "delivery.repeated", &id)];
        shared.store.append(None, Batch { deliveries: vec![fresh], changes, ..Batch::default() })?;
        Ok(new_id)
    })
    .await
}

/// Who did what, newest first.
///
/// # Errors
/// It may not be seen.
pub async fn audit(
    shared: &Arc<Shared>,
    who: &Who,
    after: &str,
    max: usize,
) -> Result<Page<Sequenced<Audited>>, Problem> {
    may_server(who, Action::SeeAudit)?;
    let (shared, before, max) = (shared.clone(), number(after)?, bounded(max));
    off(move || Ok(Page::cut(shared.store.audit(before, max + 1)?, max, |row| row.sequence.to_string()))).await
}
