//! One table of medians, and every measurement as JSON.

use std::fmt::Write;

use crate::{
    Args,
    cell::{Cell, Found},
    tool::Tool,
};

/// Returns every measurement, with the machine they are of.
pub(crate) fn json(args: &Args, found: &[Found]) -> String {
    let document = serde_json::json!({
        "schema": 1,
        "machine": machine(),
        "layer_bytes": args.layer,
        "seed": args.seed,
        "measurements": found,
    });
    serde_json::to_string_pretty(&document).unwrap() + "\n"
}

/// Returns the table, a block for each cell and link.
pub(crate) fn table(found: &[Found]) -> String {
    let mut text = format!("{}\n", machine());
    let mut keys: Vec<(u64, Cell)> = found.iter().map(|f| (f.round_trip, f.cell)).collect();
    keys.sort();
    keys.dedup();
    for (round_trip, cell) in keys {
        let link = match round_trip {
            0 => "same machine".to_owned(),
            ms => format!("{ms} ms round trip"),
        };
        writeln!(text, "\n{} ({link})", cell.title()).unwrap();
        writeln!(
            text,
            "  {:<15} {:>9} {:>9} {:>9} {:>17} {:>8} {:>8} {:>7} {:>7}",
            "", "requests", "upstream", "mirror", "wall s (range)", "CPU s", "MiB", "wall", "CPU"
        )
        .unwrap();
        let of = |tool: &str| -> Vec<&Found> {
            let here = |f: &&Found| (f.round_trip, f.cell, f.tool) == (round_trip, cell, tool);
            found.iter().filter(here).collect()
        };
        let ours = of(Tool::Imagesetd.name());
        let mut tools: Vec<&str> = Vec::new();
        for f in found {
            if !tools.contains(&f.tool) {
                tools.push(f.tool);
            }
        }
        for tool in tools {
            let rows = of(tool);
            if !rows.is_empty() {
                text += &row(tool, &rows, &ours);
            }
        }
    }
    text += "\nMedians. The last two columns: imagesetd's share of that tool's time.\n";
    text
}

fn row(tool: &str, rows: &[&Found], ours: &[&Found]) -> String {
    let wall = |f: &Found| f.cost.wall;
    let cpu = |f: &Found| f.cost.cpu;
    let count = |of: fn(&Found) -> usize| median(rows, |f| of(f) as f64);
    let walls: Vec<f64> = rows.iter().map(|f| wall(f)).collect();
    let least = walls.iter().copied().fold(f64::MAX, f64::min);
    let most = walls.iter().copied().fold(0.0, f64::max);
    let share = |value: fn(&Found) -> f64| match ours.is_empty() {
        true => "-".to_owned(),
        false => format!("{:.2}", median(ours, value) / median(rows, value)),
    };
    let incomplete = rows.iter().filter(|f| !f.complete).count();
    let note = match incomplete {
        0 => String::new(),
        n => format!("  incomplete {n} of {}", rows.len()),
    };
    format!(
        "  {tool:<15} {:>9} {:>9} {:>9} {:>17} {:>8.2} {:>8.1} {:>7} {:>7}{note}\n",
        count(|f| f.source_requests + f.mirror_requests),
        count(|f| f.source_requests),
        count(|f| f.mirror_requests),
        format!("{:.2} ({least:.2}-{most:.2})", median(rows, wall)),
        median(rows, cpu),
        median(rows, |f| f.cost.memory as f64 / 1024.0),
        share(wall),
        share(cpu),
    )
}

fn median(rows: &[&Found], value: impl Fn(&Found) -> f64) -> f64 {
    let mut values: Vec<f64> = rows.iter().map(|f| value(f)).collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Returns the machine in a line: its processor and how many of them.
fn machine() -> String {
    let books = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = books.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    format!(
        "{cores} cores, {}",
        model.unwrap_or_else(|| "unknown processor".into())
    )
}
