//! What the bodies of `POST /v1/vms` and `POST /v1/vms/snapshots` mean (protocol sections 6.1 and
//! 10).
//!
//! A body names its wishes in several places: at the top level, in `template`, and in the layers of
//! `spec`. They become a [`Spec`]: one source, sizes, and layers. The layer of a VM itself is what
//! the top level and the outermost layer of `spec` say together; `template` and the inner layers
//! are layers below, which may be kept as snapshots.
//!
//! Settings of the VM may stand in any place; the first that names one wins, outer places before
//! inner ones. Sizes and sources may only be named once. Fields this version does not act on are
//! refused unless they are empty: a VM that silently lacks what was asked for is worse than none.

mod nic;
mod place;
mod services;
mod settings;
mod setup;
mod sizes;

use freestyle_client::wire::{CreateVmRequest, EnsureSnapshotRequest};
use freestyle_vm::setup::{EnsureSnapshot, Layer, Spec};
use freestyle_vm::{CreateVm, DEFAULT_IDLE_TIMEOUT};

use self::place::Place;
use self::settings::Settings;
pub(super) use self::settings::{activity_threshold, idle_timeout, ready_timeout};
use super::snapshots::decode_persistence;
use crate::error::{ApiError, Code};
use crate::label::label;

/// Either a VM that can be made or an error the SDK knows.
pub(super) fn decode_create(request: CreateVmRequest) -> Result<CreateVm, ApiError> {
    const BAD: Code = Code::CreateVmBadRequest;
    let mut request = request;
    let nic = nic::decode(request.nics.take().unwrap_or_default(), BAD)?;
    let places = Place::of_create(request)?;
    place::check(&places, BAD)?;
    let (source, sizes) = (place::source(&places, BAD)?, sizes::decode(&places, BAD)?);
    let name = place::name(&places, BAD)?;
    let settings = Settings::collect(&places);

    // The outermost layer of a spec and the top level are the VM's; a template is below them.
    let mut places = places.into_iter().peekable();
    let top = places.next().unwrap_or_default();
    let outermost = places.next_if(Place::is_layer).unwrap_or_default();
    let prefix = if outermost.is_layer() { outermost.prefix } else { top.prefix };
    let mut setup = setup::decode(outermost.setup.with(top.setup), &prefix, BAD)?;
    setup.ready = settings.ready(BAD)?;
    let mut layers = layers_below(places.collect(), BAD)?;
    layers.push(Layer { setup, ..Layer::default() });

    Ok(CreateVm {
        name,
        spec: Spec { source, sizes, layers },
        persistence: settings.persistence(BAD)?,
        idle_timeout: match settings.idle_timeout_seconds {
            None => Some(DEFAULT_IDLE_TIMEOUT),
            Some(seconds) => idle_timeout(seconds).map_err(|text| ApiError::new(BAD, text))?,
        },
        activity_threshold_bytes: settings.activity_threshold(BAD)?,
        recreate: settings.recreate,
        nic,
    })
}

/// Either a snapshot that can be built or an error the SDK knows.
pub(super) fn decode_ensure(request: EnsureSnapshotRequest) -> Result<EnsureSnapshot, ApiError> {
    const BAD: Code = Code::CreateSnapshotBadRequest;
    let EnsureSnapshotRequest { name, spec, template, persistence, rest } = request;
    let name = label(name, BAD)?;
    let persistence = decode_persistence(persistence, BAD)?;
    let places = Place::of_ensure(spec, template, rest)?;
    place::check(&places, BAD)?;
    let (source, sizes) = (place::source(&places, BAD)?, sizes::decode(&places, BAD)?);

    // The top level has nothing to set up.
    let mut layered = places.into_iter().skip(1);
    let outermost = layered.next().unwrap_or_default();
    let mut layers = layers_below(layered.collect(), BAD)?;
    layers.push(layer(outermost, BAD)?);
    Ok(EnsureSnapshot { name, persistence, spec: Spec { source, sizes, layers } })
}

/// The layers below the outermost, innermost first, without those that ask for nothing.
fn layers_below(places: Vec<Place>, bad: Code) -> Result<Vec<Layer>, ApiError> {
    let layers = places.into_iter().rev().map(|place| layer(place, bad));
    let layers: Vec<Layer> = layers.collect::<Result<_, _>>()?;
    Ok(layers.into_iter().filter(|layer| !layer.setup.is_empty()).collect())
}

/// A layer that becomes a snapshot.
fn layer(place: Place, bad: Code) -> Result<Layer, ApiError> {
    let Place { prefix, setup, discriminator, skip_cache, .. } = place;
    let discriminator = setup::discriminator(discriminator, &prefix, bad)?;
    let mut setup = setup::decode(setup, &prefix, bad)?;
    // A snapshot of a guest that is not ready would be a lottery.
    setup.ready.wait = true;
    Ok(Layer { setup, discriminator, skip_cache })
}

#[cfg(test)]
mod tests;
