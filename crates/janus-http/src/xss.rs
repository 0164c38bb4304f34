//! The rule for claims of reflected cross-site scripting.

use crate::{
    Claim, Context, HttpPair, Reflection, Reflections, Rendering,
    headers::{RuleVerdict, enforced_policies, host},
};

/// The rule's name.
const RULE: &str = "reflected-xss";

/// The places that a claim is about: those of the parameter that it names. A parameter that the request does not have
/// names nothing, and then all places count.
pub(crate) fn places<'a>(reflections: &'a Reflections, claim: &'a Claim) -> Vec<&'a Reflection> {
    let name = claim
        .parameter
        .as_deref()
        .filter(|name| reflections.parameters.iter().any(|parameter| parameter.name.eq_ignore_ascii_case(name)));
    reflections.of_parameter(name).collect()
}

/// Whether a policy in force lets this place's script run.
pub(crate) fn is_allowed(pair: &HttpPair, reflections: &Reflections, place: &Reflection) -> bool {
    let policies = enforced_policies(pair.response(), &reflections.page);
    let host = host(pair.request());
    place.effect.as_ref().is_some_and(|effect| {
        // What ran as part of the page's own script runs where that script does.
        let inside = matches!(place.context, Context::Script(_));
        let own = |nonce: &Option<String>| crate::Executable { nonce: nonce.clone(), ..effect.clone() };
        let nonce = reflections
            .page
            .executables
            .iter()
            .find(|one| inside && one.text.contains(&effect.text))
            .and_then(|one| one.nonce.clone());
        policies.iter().all(|policy| policy.allows(&own(&nonce.clone().or(effect.nonce.clone())), &host))
    })
}

/// Judges a claim: it holds where what came back adds script to the page, the page is shown, and no policy forbids it.
pub(crate) fn judge(pair: &HttpPair, claim: &Claim, reflections: &Reflections) -> RuleVerdict {
    let places = places(reflections, claim);
    let answer = |holds: bool, reason: String, place: Option<&Reflection>| RuleVerdict {
        rule: RULE,
        holds: Some(holds),
        reason,
        span: place.map(|place| place.span.clone()),
    };
    let in_body: Vec<_> = places.iter().copied().filter(|place| place.context != Context::Header).collect();
    let Some(first) = in_body.first() else {
        let reason =
            if places.is_empty() { "the value does not come back" } else { "the value comes back in a header only" };
        return answer(false, reason.to_owned(), places.first().copied());
    };
    if !reflections.rendering.runs_script() {
        let shown = match reflections.rendering {
            Rendering::Redirect => "nobody sees the body of a redirect".to_owned(),
            Rendering::Download => "the response is saved and not shown".to_owned(),
            other => format!("the response is shown as {}", other.name()),
        };
        return answer(false, shown, Some(first));
    }
    let live: Vec<_> = in_body.iter().copied().filter(|place| place.effect.is_some()).collect();
    let Some(effect) = live.first() else {
        return answer(false, format!("in {} it adds no script", first.context.name()), Some(first));
    };
    let kind = effect.effect.as_ref().map_or("script", |effect| effect.kind.name());
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    match live.iter().find(|place| is_allowed(pair, reflections, place)) {
        Some(place) => answer(true, format!("from {} it adds {article} {kind}", place.context.name()), Some(place)),
        None => answer(false, format!("it adds {article} {kind}, which the policy blocks"), Some(effect)),
    }
}
