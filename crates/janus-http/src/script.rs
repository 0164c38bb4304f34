//! Where in a piece of JavaScript one stands: code, a string, a template, a comment, a regular expression.

/// A position in a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScriptPosition {
    /// Between tokens.
    Code,
    /// In a string that this quote ends.
    String(char),
    /// In a template literal.
    Template,
    /// In a comment that ends with its line.
    LineComment,
    /// In `/* */`.
    BlockComment,
    /// In a regular expression.
    Regex,
}

/// Follows a script one character at a time. What it keeps is bounded, so hostile nesting costs nothing.
#[derive(Debug, Clone)]
pub(super) struct ScriptScanner {
    position: ScriptPosition,
    escaped: bool,
    in_class: bool,
    /// The last character of code, and the one in front of it, white space left out: they tell a regular expression
    /// from a division.
    last: char,
    pending_slash: bool,
    pending_star: bool,
    pending_dollar: bool,
    /// Braces open in each `${}` around us.
    nesting: Vec<u32>,
}

/// Nested templates beyond this are read as code.
const DEEPEST: usize = 64;

impl ScriptScanner {
    pub(super) fn new() -> Self {
        Self {
            position: ScriptPosition::Code,
            escaped: false,
            in_class: false,
            last: ';',
            pending_slash: false,
            pending_star: false,
            pending_dollar: false,
            nesting: Vec::new(),
        }
    }

    pub(super) fn position(&self) -> ScriptPosition {
        self.position
    }

    /// Reads a text.
    pub(super) fn read(&mut self, text: &str) {
        text.chars().for_each(|letter| self.next(letter));
    }

    pub(super) fn next(&mut self, letter: char) {
        match self.position {
            ScriptPosition::Code => self.code(letter),
            ScriptPosition::String(quote) => {
                if self.escaped {
                    self.escaped = false;
                } else if letter == '\\' {
                    self.escaped = true;
                } else if letter == quote || letter == '\n' {
                    self.enter_code('"');
                }
            }
            ScriptPosition::Template => {
                let dollar = std::mem::replace(&mut self.pending_dollar, letter == '$' && !self.escaped);
                if self.escaped {
                    self.escaped = false;
                } else if letter == '\\' {
                    self.escaped = true;
                } else if letter == '`' {
                    self.enter_code('"');
                } else if letter == '{' && dollar && self.nesting.len() < DEEPEST {
                    self.nesting.push(0);
                    self.enter_code(';');
                }
            }
            ScriptPosition::LineComment => {
                if matches!(letter, '\n' | '\r' | '\u{2028}' | '\u{2029}') {
                    self.position = ScriptPosition::Code;
                }
            }
            ScriptPosition::BlockComment => {
                if letter == '/' && self.pending_star {
                    self.position = ScriptPosition::Code;
                }
                self.pending_star = letter == '*';
            }
            ScriptPosition::Regex => {
                if self.escaped {
                    self.escaped = false;
                } else {
                    match letter {
                        '\\' => self.escaped = true,
                        '[' => self.in_class = true,
                        ']' => self.in_class = false,
                        '/' if !self.in_class => self.enter_code('"'),
                        '\n' => self.enter_code(';'),
                        _ => {}
                    }
                }
            }
        }
    }

    fn enter_code(&mut self, last: char) {
        (self.position, self.last) = (ScriptPosition::Code, last);
        (self.escaped, self.in_class, self.pending_dollar) = (false, false, false);
    }

    fn code(&mut self, letter: char) {
        if std::mem::take(&mut self.pending_slash) {
            match letter {
                '/' => return self.position = ScriptPosition::LineComment,
                '*' => {
                    self.pending_star = false;
                    return self.position = ScriptPosition::BlockComment;
                }
                // After a value a slash divides; after an operator it begins a regular expression.
                _ if !(self.last.is_alphanumeric() || matches!(self.last, ')' | ']' | '}' | '"' | '_' | '$')) => {
                    self.position = ScriptPosition::Regex;
                    return self.next(letter);
                }
                _ => self.last = '/',
            }
        }
        match letter {
            '"' | '\'' => self.position = ScriptPosition::String(letter),
            '`' => self.position = ScriptPosition::Template,
            '/' => self.pending_slash = true,
            '{' => {
                if let Some(open) = self.nesting.last_mut() {
                    *open = open.saturating_add(1);
                }
                self.last = letter;
            }
            '}' => match self.nesting.last_mut() {
                Some(0) => {
                    self.nesting.pop();
                    self.position = ScriptPosition::Template;
                }
                Some(open) => {
                    *open -= 1;
                    self.last = letter;
                }
                None => self.last = letter,
            },
            letter if letter.is_whitespace() => {}
            letter => self.last = letter,
        }
    }
}

/// Whether `text`, written where a scanner stands, leaves the string, template, comment or expression it is in and then
/// does something: a call, an assignment, a tagged template. In code it need not leave anything.
pub(super) fn breaks_out_from(scanner: &ScriptScanner, text: &str) -> bool {
    let mut scanner = scanner.clone();
    text.chars().any(|letter| {
        let was = scanner.position();
        scanner.next(letter);
        was == ScriptPosition::Code && matches!(letter, '(' | '=' | '`')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(script: &str) -> ScriptPosition {
        let mut scanner = ScriptScanner::new();
        scanner.read(script);
        scanner.position()
    }

    #[test]
    fn positions_follow_the_grammar() {
        use ScriptPosition::*;
        let cases = [
            ("var a = ", Code),
            ("var a = \"b", String('"')),
            ("var a = 'it\\'s ", String('\'')),
            ("f(`x", Template),
            ("f(`x${a", Code),
            ("f(`x${a}", Template),
            ("f(`x${{a:1}}`", Code),
            ("a = 1; // b", LineComment),
            ("a = 1; // b\nc", Code),
            ("/* a", BlockComment),
            ("/* a */ b", Code),
            ("a = /[/\"]", Regex),
            ("a = /[/\"]/.test(b) + '", String('\'')),
            ("a = b / c; d = '", String('\'')),
            ("var u = \"http://a/", String('"')),
        ];
        for (script, position) in cases {
            assert_eq!(at(script), position, "{script}");
        }
    }

    fn breaks_out(before: &str, text: &str) -> bool {
        let mut scanner = ScriptScanner::new();
        scanner.read(before);
        breaks_out_from(&scanner, text)
    }

    #[test]
    fn only_what_ends_its_literal_and_does_something_breaks_out() {
        assert!(breaks_out("var a = '", "';alert(1)//"));
        assert!(!breaks_out("var a = '", "\\';alert(1)//"));
        assert!(breaks_out("var a = '", "\\\\';alert(1)//"));
        assert!(!breaks_out("var a = \"", "';alert(1)//"));
        assert!(breaks_out("var a = `", "${alert(1)}"));
        assert!(breaks_out("// ", "x\nalert(1)"));
        assert!(breaks_out("var a = ", "alert(1)"));
        assert!(!breaks_out("var a = ", "12345"));
    }
}
