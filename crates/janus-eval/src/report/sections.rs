//! What a report says in which order: tables, charts and mistakes, before they become a page.

use serde::Serialize;

use super::{
    excerpt::{clipped, line},
    figures,
    findings::{in_cell, number, parts, ranked},
    folder::{ResultFolder, TrainingRun},
    mistakes::Mistakes,
    results::{Counted, Estimate, Results, ScalingResults, StudyResults, SystemResults, TrainingResults},
};
use crate::{
    Chart, Curve, Curves, LabelledSet,
    metrics::{self, Scored},
    scaling, trials,
};

/// The most bytes of a cell.
const CELL: usize = 160;

/// A stretch of the report.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Section {
    pub title: String,
    pub tables: Vec<Table>,
    pub figures: Vec<Figure>,
    pub mistakes: Vec<Mistakes>,
}

/// A table; every cell is one bounded line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Table {
    pub caption: String,
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    /// What it is about, as [`TOPICS`] name it.
    pub topic: String,
    pub chart: Chart,
    pub caption: String,
}

/// What a report is asked for: the topic of a figure, and its name in the line of what is missing.
const TOPICS: [(&str, &str); 21] = [
    ("variants", "variants"),
    ("lora", "before and after LoRA"),
    ("length", "length of the analysis"),
    ("rank", "rank of the adapter"),
    ("lr", "learning rate (as an ablation)"),
    ("samples", "number of samples"),
    ("labels", "verdicts alone"),
    ("head", "shape of the head"),
    ("layer", "layer that the head reads"),
    ("pooling", "pooling of the states"),
    ("facts", "facts given to the head"),
    ("states", "states behind an analysis"),
    ("scaling", "test-time scaling"),
    ("temperature", "temperature"),
    ("classes", "classes of vulnerability"),
    ("written-tokens", "distribution of written tokens"),
    ("loss", "losses of training"),
    ("reliability", "reliability"),
    ("risk-coverage", "risk and coverage"),
    ("roc", "ROC"),
    ("pr", "precision and recall over thresholds"),
];

/// The topics that no figure is about.
pub(super) fn not_measured(sections: &[Section]) -> Vec<String> {
    let is_drawn =
        |topic: &str| sections.iter().flat_map(|section| &section.figures).any(|figure| figure.topic == topic);
    TOPICS.iter().filter(|(topic, _)| !is_drawn(topic)).map(|(_, name)| (*name).to_owned()).collect()
}

/// All sections, folder by folder.
pub(super) fn sections(
    results: &Results,
    folders: &[ResultFolder],
    runs: &[TrainingRun],
    sets: &[LabelledSet],
) -> Vec<Section> {
    let mut found = Vec::new();
    let studied = folders.iter().filter(|folder| !folder.predictions.is_empty());
    for (study, folder) in results.studies.iter().zip(studied) {
        found.extend(parts(study).into_iter().map(|part| of_part(study, folder, part, sets)));
        found.extend(written(study, folder));
    }
    let varied = folders.iter().filter(|folder| !folder.spent.is_empty());
    found.extend(results.scaling.iter().zip(varied).map(|(scaling, folder)| scaled(scaling, folder)));
    found.extend(folders.iter().filter(|folder| !folder.trials.is_empty()).map(ablated));
    found.extend(compared(runs));
    found.extend(results.training.iter().zip(runs).map(|(results, run)| trained(results, run)));
    found
}

fn figure((topic, chart, caption): (&'static str, Chart, String)) -> Figure {
    Figure { topic: topic.to_owned(), chart, caption }
}

fn table(caption: &str, head: &[&'static str], rows: impl Iterator<Item = Vec<String>>) -> Table {
    let bounded = |row: Vec<String>| row.into_iter().map(|cell| line(&cell, CELL)).collect();
    Table { caption: caption.to_owned(), head: head.to_vec(), rows: rows.map(bounded).collect() }
}

fn of_part(study: &StudyResults, folder: &ResultFolder, part: &str, sets: &[LabelledSet]) -> Section {
    let rows = || study.systems.iter().filter(|row| row.part == part);
    let category = |row: &SystemResults| row.category.map_or("all", |category| category.name()).to_owned();
    let calls = rows().map(|row| {
        let rates = [row.precision, row.recall, row.false_positive_rate, row.accuracy];
        [row.system.clone(), category(row), row.n.to_string(), row.open.to_string()]
            .into_iter()
            .chain(rates.iter().map(in_cell))
            .collect()
    });
    let scores = rows().map(|row| {
        let plain = |value: Option<f64>| number(&Estimate { value, low: None, high: None });
        let scores = [row.auroc, row.auprc, row.brier, row.log_loss, row.ece];
        let first = [row.system.clone(), category(row), row.n.to_string()];
        let calls = [row.f1, row.f05, row.mcc, row.prevalence].map(plain);
        let tails = row.tpr_at_fpr.map(plain).join(" / ");
        first.into_iter().chain(scores.iter().map(number)).chain(calls).chain([tails]).collect()
    });
    let mut tables = vec![
        table(
            "Calls: shares in % with 95 % intervals (Wilson) and counts; open findings need review or were not answered, and are in no share",
            &["system", "class", "n", "open", "precision", "recall", "false-positive rate", "accuracy"],
            calls,
        ),
        table(
            "Probabilities: 95 % intervals from a bootstrap over groups; ECE over ten bins of equal mass; log loss in nats",
            &[
                "system",
                "class",
                "n",
                "AUROC",
                "AUPRC",
                "Brier",
                "log loss",
                "ECE",
                "F1",
                "F0.5",
                "MCC",
                "prevalence",
                "recall at FPR 0.5 / 1 / 5 %",
            ],
            scores,
        ),
    ];
    let drawn = figures::of_part(study, folder, part);
    let best = ranked(study, part).first().map(|row| row.system.as_str());
    if let Some(system) = best.filter(|_| drawn.iter().any(|(topic, ..)| *topic == "reliability")) {
        tables.push(bins(folder, part, system));
    }
    Section {
        title: format!("{} ({})", line(part, CELL), line(&folder.name, CELL)),
        tables,
        figures: drawn.into_iter().map(figure).collect(),
        mistakes: best.map(|system| Mistakes::of(folder, part, system, sets)).into_iter().collect(),
    }
}

/// The numbers of the reliability diagram.
fn bins(folder: &ResultFolder, part: &str, system: &str) -> Table {
    let own = folder.predictions.iter().filter(|one| one.part == part && one.system == system);
    let pairs: Vec<Scored> = own.filter_map(|one| Some((one.p_vulnerable?, one.is_vulnerable))).collect();
    let bins = metrics::reliability(&pairs, figures::BINS);
    let rows = bins.iter().map(|bin| {
        let held = Counted::of(figures::held(bin));
        vec![bin.count.to_string(), format!("{:.4}", bin.confidence), in_cell(&held)]
    });
    let caption = format!("Reliability of {}", line(system, CELL));
    table(&caption, &["n", "mean probability", "claims that hold, %"], rows)
}

/// What systems of a folder wrote and spent.
fn written(study: &StudyResults, folder: &ResultFolder) -> Option<Section> {
    let mut tables = Vec::new();
    if !study.analyses.is_empty() {
        let rows = study.analyses.iter().map(|row| {
            let category = row.category.map_or("all", |category| category.name());
            let first = [row.part.clone(), row.system.clone(), category.to_owned()];
            first.into_iter().chain([row.ended, row.quotes, row.agrees, row.all].iter().map(in_cell)).collect()
        });
        tables.push(table(
            "Analyses, in %: that end before the limit of tokens; quote, and only what is there; agree with their verdict, to a reader that knows \
             nothing but words; all three",
            &["part", "system", "class", "end", "quote truly", "agree", "all three"],
            rows,
        ));
    }
    if !study.tokens.is_empty() {
        let rows = study.tokens.iter().map(|row| {
            vec![row.system.clone(), row.n.to_string(), format!("{:.0}", row.prompt), format!("{:.1}", row.generated)]
        });
        tables.push(table("Mean tokens a finding", &["system", "n", "read", "written"], rows));
    }
    let figures = figures::of_tokens(folder).into_iter().map(figure).collect();
    let title = format!("What is written ({})", line(&folder.name, CELL));
    (!tables.is_empty()).then_some(Section { title, tables, figures, ..Section::default() })
}

fn scaled(results: &ScalingResults, folder: &ResultFolder) -> Section {
    let ways = results.ways.iter().map(|way| {
        let [right, alarms] = [way.right, way.false_positive_rate].map(|rate| in_cell(&rate));
        vec![
            way.knob.to_string(),
            way.way.clone(),
            way.right.trials.to_string(),
            format!("{:.0}", way.tokens),
            right,
            alarms,
        ]
    });
    let slopes = results.slopes.iter().map(|(knob, slope)| vec![knob.clone(), number(slope)]);
    let drawn = scaling::all_charts(&folder.spent).into_iter();
    Section {
        title: format!("More tokens ({})", line(&folder.name, CELL)),
        tables: vec![
            table(
                "Written verdicts, each finding answered in each way",
                &["knob", "value", "n", "tokens a finding", "right, %", "false-positive rate, %"],
                ways,
            ),
            table("Percentage points of right verdicts gained by 1,000 tokens more", &["knob", "points"], slopes),
        ],
        figures: drawn
            .map(|(topic, chart)| Figure { topic, chart: Chart::Curves(chart), caption: String::new() })
            .collect(),
        ..Section::default()
    }
}

/// What settings of training change.
fn ablated(folder: &ResultFolder) -> Section {
    let outcomes = trials::outcomes(&folder.trials, folder.seed);
    let rows = outcomes.iter().map(|outcome| outcome.cells().to_vec());
    let caption = "Each value trained anew, the rest as it was; called at 0.5 over all seeds, 95 % intervals from a bootstrap over groups";
    let drawn = trials::charts(&outcomes).into_iter();
    Section {
        title: format!("Settings of training ({})", line(&folder.name, CELL)),
        tables: vec![table(caption, &trials::HEAD, rows)],
        figures: drawn.map(|(knob, chart)| figure((knob.name(), Chart::Intervals(chart), String::new()))).collect(),
        ..Section::default()
    }
}

/// The training losses of several runs in one chart.
fn compared(runs: &[TrainingRun]) -> Option<Section> {
    fn of(run: &TrainingRun) -> Option<(Curve, &Curves)> {
        let (_, loss) = run.charts.iter().find(|(name, _)| name == "loss")?;
        let smooth = loss.curves.iter().find(|curve| curve.name.contains("mean")).or(loss.curves.first())?;
        Some((Curve { name: clipped(&run.name, figures::NAME), points: smooth.points.clone() }, loss))
    }
    let found: Vec<_> = runs.iter().filter_map(of).collect();
    let (_, first) = found.first().filter(|_| found.len() > 1)?;
    let chart = Curves {
        title: "Training losses of all runs".to_owned(),
        x_label: first.x_label.clone(),
        y_label: first.y_label.clone(),
        curves: found.iter().map(|(curve, _)| curve.clone()).collect(),
        marks: Vec::new(),
    };
    let caption = "Each the mean of its last 20 steps; runs that teach other forms have other losses.".to_owned();
    let figures = vec![figure(("losses", Chart::Curves(chart), caption))];
    Some(Section { title: "Training, all runs".to_owned(), figures, ..Section::default() })
}

fn trained(results: &TrainingResults, run: &TrainingRun) -> Section {
    // A learning rate must not print as 0.0000.
    let decimals =
        |value: f64| if value != 0.0 && value.abs() < 0.01 { format!("{value:.2e}") } else { format!("{value:.4}") };
    let curves = results.curves.iter().map(|curve| {
        let values = [curve.first, curve.lowest, curve.highest, curve.last].map(decimals);
        [curve.chart.clone(), curve.name.clone(), curve.n.to_string()].into_iter().chain(values).collect()
    });
    let figure = |(topic, drawn): &(String, Curves)| {
        let name = |text: &str| clipped(text, figures::NAME);
        let curves = drawn.curves.iter().map(|curve| Curve { name: name(&curve.name), points: curve.points.clone() });
        let chart = Curves {
            title: name(&drawn.title),
            x_label: name(&drawn.x_label),
            y_label: name(&drawn.y_label),
            curves: curves.collect(),
            marks: drawn.marks.clone(),
        };
        Figure { topic: topic.clone(), chart: Chart::Curves(chart), caption: String::new() }
    };
    Section {
        title: format!("Training ({})", line(&run.name, CELL)),
        tables: vec![table("Curves", &["chart", "curve", "points", "first", "lowest", "highest", "last"], curves)],
        figures: run.charts.iter().map(figure).collect(),
        ..Section::default()
    }
}
