//! `GetCapabilities`: what a server says of itself must be well-formed and true.

use crate::Server;
use crate::check::{Verdict, checks, holds, same};
use crate::data::Function;
use crate::server::{FRAME_BYTES, upload};

checks! { "capabilities":
    Must tells_cache_capabilities
        "GetCapabilities answers with the capabilities of the cache part when the server has one"
    Must tells_api_versions
        "low_api_version and high_api_version are the earliest and the latest version that the server speaks"
    Must names_its_digest_functions
        "the digest functions of the cache are listed; UNKNOWN is an error for a server to return"
    Should offers_sha256
        "SHA-256 is what every client of version 2 knows"
    Must takes_a_batch_of_the_told_size
        "max_batch_total_size_bytes is the content that a batch may carry"
    Must tells_no_negative_limits
        "limits are sizes in bytes, or 0 where there is none"
    Must tells_whether_results_may_be_updated
        "action_cache_update_capabilities tells whether the caller may update action results"
    Must does_what_it_tells_of_updates
        "update_enabled is true exactly when UpdateActionResult works for this caller"
    Must fast_cdc_parameters_are_in_range
        "the average chunk size of FastCDC lies between 1 KiB and 8 MiB"
    Must rep_max_cdc_parameters_are_in_range
        "the smallest chunk of RepMaxCDC has at least 64 bytes"
    Must execution_names_its_digest_function
        "digest_function of the execution capabilities must not be UNKNOWN, and digest_functions contains it"
    Should batch_limit_fits_a_message
        "a limit of 0 means none, but messages of gRPC are limited to 4 MiB unless both sides say otherwise"
}

async fn tells_cache_capabilities(server: &Server) -> Verdict {
    holds(server.capabilities.cache_capabilities.is_some(), "cache_capabilities is not set")
}

async fn tells_api_versions(server: &Server) -> Verdict {
    let version = |told: &Option<bazel_remote_apis::build::bazel::semver::SemVer>| {
        told.as_ref().map(|version| (version.major, version.minor))
    };
    let low = version(&server.capabilities.low_api_version);
    let high = version(&server.capabilities.high_api_version);
    holds(low.is_some() && high.is_some(), format!("versions are {low:?} to {high:?}"))?;
    holds(low <= high && high >= Some((2, 0)), format!("versions are {low:?} to {high:?}"))
}

async fn names_its_digest_functions(server: &Server) -> Verdict {
    let named = server.cache().digest_functions;
    holds(!named.is_empty() && !named.contains(&0), format!("digest functions are {named:?}"))
}

async fn offers_sha256(server: &Server) -> Verdict {
    holds(server.cache().digest_functions.contains(&Function::Sha256.into()), "SHA-256 is not among them")
}

async fn takes_a_batch_of_the_told_size(server: &Server) -> Verdict {
    let told = server.cache().max_batch_total_size_bytes;
    let told = usize::try_from(told).unwrap_or_default();
    // Without a limit, what fits the smallest message size is taken at least; a huge limit is not tried to its end.
    let bytes = if told == 0 { FRAME_BYTES - (256 << 10) } else { told.min(16 << 20) };
    let (digest, content) = server.blob(bytes);
    let answers = server.batch_update(vec![upload(digest.clone(), content)]).await?;
    same("status of the upload", answers, vec![(digest, 0)])
}

async fn tells_no_negative_limits(server: &Server) -> Verdict {
    let cache = server.cache();
    let limits = (cache.max_batch_total_size_bytes, cache.max_cas_blob_size_bytes);
    holds(limits.0 >= 0 && limits.1 >= 0, format!("limits are {limits:?}"))
}

async fn tells_whether_results_may_be_updated(server: &Server) -> Verdict {
    holds(server.cache().action_cache_update_capabilities.is_some(), "action_cache_update_capabilities is not set")
}

async fn does_what_it_tells_of_updates(server: &Server) -> Verdict {
    let told = server.cache().action_cache_update_capabilities.is_some_and(|update| update.update_enabled);
    let action = crate::action_cache::new_action(server).await?;
    let works = crate::action_cache::update(server, &action, crate::action_cache::plain_result(server).await?).await;
    same("whether an update works", works.is_ok(), told)
}

async fn fast_cdc_parameters_are_in_range(server: &Server) -> Verdict {
    let told = server.cache().fast_cdc_2020_params;
    server.needs(told.is_some(), "FastCDC")?;
    let average = told.map_or(0, |params| params.avg_chunk_size_bytes);
    holds((1 << 10..=8 << 20).contains(&average), format!("the average is {average} bytes"))
}

async fn rep_max_cdc_parameters_are_in_range(server: &Server) -> Verdict {
    let told = server.cache().rep_max_cdc_params;
    server.needs(told.is_some(), "RepMaxCDC")?;
    let smallest = told.map_or(0, |params| params.min_chunk_size_bytes);
    holds(smallest >= 64, format!("the smallest has {smallest} bytes"))
}

async fn execution_names_its_digest_function(server: &Server) -> Verdict {
    let told = server.capabilities.execution_capabilities.clone();
    server.needs(told.as_ref().is_some_and(|execution| execution.exec_enabled), "execution")?;
    let execution = told.unwrap_or_default();
    let listed =
        execution.digest_functions.is_empty() || execution.digest_functions.contains(&execution.digest_function);
    holds(
        execution.digest_function != 0 && listed,
        format!("it names {} and lists {:?}", execution.digest_function, execution.digest_functions),
    )
}

async fn batch_limit_fits_a_message(server: &Server) -> Verdict {
    let limit = server.cache().max_batch_total_size_bytes;
    holds((1..FRAME_BYTES as i64).contains(&limit), format!("the limit is {limit} bytes"))
}
