//! The rule for claims of reflected cross-site scripting.

use crate::{
    AttributeKind, Claim, Context, Executable, ExecutableKind, Form, HttpPair, Parameter, Quote, Reflection,
    Reflections, Rendering, ScriptPosition,
    headers::{Policy, RuleVerdict, host, placed_policies},
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

/// The policies of a response, read once for all its places.
pub(crate) struct InForce {
    /// Each with how many `meta` elements stand before what it reaches.
    policies: Vec<(usize, Policy)>,
    host: String,
}

impl InForce {
    pub(crate) fn of(pair: &HttpPair, reflections: &Reflections) -> Self {
        let policies = placed_policies(pair.response(), &reflections.page).collect();
        Self { policies, host: host(pair.request()) }
    }

    /// Whether they let this place's script run.
    pub(crate) fn allows(&self, reflections: &Reflections, place: &Reflection) -> bool {
        let page = &reflections.page;
        place.effect.as_ref().is_some_and(|effect| {
            // What ran as part of the page's own script runs where that script does, and so does what took its address.
            let holds = |one: &&Executable| match effect.kind {
                ExecutableKind::External => one.kind == effect.kind && one.text.trim() == effect.text.trim(),
                _ => one.kind == ExecutableKind::Inline && one.text.contains(&effect.text),
            };
            let inside = matches!(place.context, Context::Script(_)) || effect.kind == ExecutableKind::External;
            let holder = if inside { page.executables.iter().find(holds) } else { None };
            let nonce = effect.nonce.clone().or_else(|| holder.and_then(|one| one.nonce.clone()));
            let metas = match effect.kind {
                // It is looked at when it is followed.
                ExecutableKind::ScriptUrl => usize::MAX,
                _ => holder.map_or(effect.metas, |one| one.metas),
            };
            let own = Executable { nonce, ..effect.clone() };
            let base = page.base.as_deref().filter(|base| is_of(base, effect));
            self.policies.iter().filter(|(at, _)| *at <= metas).all(|(_, policy)| {
                policy.allows(&own, &self.host) && base.is_none_or(|base| policy.allows_base(base, &self.host))
            })
        })
    }

    fn all(&self, test: impl Fn(&Policy) -> bool) -> bool {
        self.policies.iter().all(|(_, policy)| test(policy))
    }
}

/// Whether a script comes from the host of a `base` element.
fn is_of(base: &str, effect: &Executable) -> bool {
    let host = base.find("//").map(|at| base[at..].split(['/', '?', '#']).nth(2).unwrap_or_default());
    effect.kind == ExecutableKind::External && host.is_some_and(|host| !host.is_empty() && effect.text.contains(host))
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
    let in_force = InForce::of(pair, reflections);
    let Some(effect) = live.first() else {
        let inline =
            |policy: &Policy| policy.allows_inline("script-src-elem") || policy.allows_inline("script-src-attr");
        let probes = Probes::of(reflections);
        if let Some(place) = in_body.iter().find(|place| probes.could_leave(place)).filter(|_| in_force.all(inline)) {
            return answer(true, format!("in {} the probe keeps what leaves it", place.context.name()), Some(place));
        }
        let evaluates = in_force.all(Policy::allows_eval) && loads_template_engine(pair, reflections);
        if let Some(place) = in_body.iter().find(|place| evaluates && probes.is_expression(place)) {
            return answer(true, "the page's template engine evaluates it".to_owned(), Some(place));
        }
        return answer(false, format!("in {} it adds no script", first.context.name()), Some(first));
    };
    let kind = effect.effect.as_ref().map_or("script", |effect| effect.kind.name());
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    match live.iter().find(|place| in_force.allows(reflections, place)) {
        Some(place) => answer(true, format!("from {} it adds {article} {kind}", place.context.name()), Some(place)),
        None => answer(false, format!("it adds {article} {kind}, which the policy blocks"), Some(effect)),
    }
}

/// What of a value is looked at, in bytes.
const LONGEST: usize = 2048;

/// What the values of a request are, beside payloads: looked at once, whatever the number of places.
struct Probes {
    /// For each parameter, of its name and of its value.
    values: Vec<[Probe; 2]>,
}

#[derive(Clone, Copy)]
struct Probe {
    /// It runs nothing of its own, and is there to see which characters survive.
    runs_nothing: bool,
    /// `<` in front of a letter is in it.
    has_tag: bool,
    /// `{{...}}` is in it.
    is_expression: bool,
}

impl Probe {
    fn of(value: &str) -> Self {
        const OF_PAYLOADS: [&str; 18] = [
            "alert", "confirm", "prompt", "print", "eval", "script", "document", "window", "location", "fetch",
            "import", "src", "href", "style", "{{", "${", "base", "meta",
        ];
        let lower = value[..value.floor_char_boundary(LONGEST)].to_ascii_lowercase();
        // An event handler is `on`, a name and `=`.
        let handler = lower.match_indices("on").any(|(at, _)| {
            let name = lower[at + 2..].bytes().take(32).take_while(u8::is_ascii_lowercase).count();
            name > 2 && lower[at + 2 + name..].trim_start().starts_with('=')
        });
        Self {
            runs_nothing: !handler && !OF_PAYLOADS.iter().any(|part| lower.contains(part)),
            has_tag: lower.as_bytes().windows(2).any(|two| two[0] == b'<' && two[1].is_ascii_alphabetic()),
            is_expression: lower.find("{{").is_some_and(|at| lower[at..].contains("}}")),
        }
    }
}

impl Probes {
    fn of(reflections: &Reflections) -> Self {
        let both = |parameter: &Parameter| [Probe::of(&parameter.value), Probe::of(&parameter.name)];
        Self { values: reflections.parameters.iter().map(both).collect() }
    }

    fn at(&self, place: &Reflection) -> Probe {
        self.values[place.parameter][usize::from(place.by_name)]
    }

    /// Whether what survived of a probe is what leaves its context: a payload in its place would.
    fn could_leave(&self, place: &Reflection) -> bool {
        let raw = |letter: char| place.survival.has(letter, Form::Literal);
        let probe = self.at(place);
        probe.runs_nothing
            && match place.context {
                Context::Text => raw('<') && raw('>') && probe.has_tag,
                Context::Attribute(_, AttributeKind::Script(ScriptPosition::String(quote))) => raw(quote),
                Context::Attribute(Quote::Double, _) => raw('"'),
                Context::Attribute(Quote::Single, _) => raw('\''),
                Context::Script(ScriptPosition::String(quote)) => raw(quote),
                _ => false,
            }
    }

    /// Whether it is text that a template engine would read as an expression.
    fn is_expression(&self, place: &Reflection) -> bool {
        let raw = place.whole && place.survival.has('{', Form::Literal);
        self.at(place).is_expression && raw && place.context == Context::Text
    }
}

/// Whether a page loads a template engine and gives it a part of itself.
fn loads_template_engine(pair: &HttpPair, reflections: &Reflections) -> bool {
    const ROOTS: [&str; 6] = ["ng-app", "data-ng-app", "v-app", "angular.bootstrap", "new Vue(", "createApp("];
    let loads = reflections.page.executables.iter().take(1000).any(|one| {
        let text = one.text.to_ascii_lowercase();
        one.kind == ExecutableKind::External && ["angular", "vue"].iter().any(|engine| text.contains(engine))
    });
    loads && {
        let text = pair.response().text();
        ROOTS.iter().any(|root| text.contains(root))
    }
}
