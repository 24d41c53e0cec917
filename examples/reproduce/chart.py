"""A line chart as SVG text: a few series of points, direct labels, nothing outside the file."""

from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 170, 44, 48
COLOURS = ["#0a6e8a", "#c2571a", "#5b8c2a", "#7b4fa3", "#b0902a", "#a03050", "#4a5a6a", "#2f6f5f"]


def ticks(low, high):
    """Round values that cover low..high."""
    span = (high - low) or 1
    step = 10 ** len(str(int(span))) / 100
    step = next(s for s in (step, 2 * step, 5 * step, 10 * step, 20 * step, 50 * step, 100 * step) if span / s <= 6)
    first = int(low // step)
    return [round((first + i) * step, 6) for i in range(9) if low <= (first + i) * step <= high + 1e-9]


def spread(places, gap):
    """Labels' heights moved apart, in order, so that none lies on another."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    for a, b in zip(order, order[1:]):
        moved[b] = max(moved[b], moved[a] + gap)
    return moved


def line_chart(title, x_label, y_label, series, x_names=None, y_range=(0, 100)):
    """series: [(name, [(x, y)], dashed)]. x_names: {x: text} for an axis with names instead of a scale."""
    xs = [x for _, points, _ in series for x, _ in points] or [0, 1]
    low, high = min(xs), max(max(xs), min(xs) + 1e-9)

    def px(x):
        return LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def py(y):
        return HEIGHT - BOTTOM - (y - y_range[0]) / (y_range[1] - y_range[0]) * (HEIGHT - TOP - BOTTOM)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
           'font-family="DejaVu Sans, Verdana, sans-serif" font-size="11">', f"<title>{escape(title)}</title>",
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
           f'<text x="{LEFT}" y="22" font-size="14" fill="#1d2126">{escape(title)}</text>']
    for y in ticks(*y_range):
        out.append(f'<path d="M{LEFT} {py(y):.1f}H{WIDTH - RIGHT}" stroke="#dde1e6"/>'
                   f'<text x="{LEFT - 6}" y="{py(y) + 4:.1f}" text-anchor="end" fill="#5a626c">{y:g}</text>')
    for x in sorted(x_names) if x_names else ticks(low, high):
        out.append(f'<text x="{px(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#5a626c">'
                   f'{escape(x_names[x]) if x_names else f"{x:g}"}</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle" fill="#5a626c">{escape(x_label)}</text>')
    out.append(f'<text x="{LEFT}" y="{TOP - 6}" fill="#5a626c">{escape(y_label)}</text>')
    heights = spread([py(points[-1][1]) for _, points, _ in series if points], 14)
    for i, (name, points, dashed) in enumerate(s for s in series if s[1]):
        colour = COLOURS[i // 2 % len(COLOURS)]
        path = "L".join(f"{px(x):.1f} {py(y):.1f}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        out.append(f'<text x="{WIDTH - RIGHT + 8}" y="{heights[i] + 4:.1f}" fill="{colour}">{escape(name)}</text>')
    return "\n".join(out + ["</svg>\n"])
