/* SPDX-License-Identifier: MIT */
/*
 * A picture: above, what travels a second, by its kind, one on top of the other; below, the share
 * of time in which threads of the sink were blocked. Between two samples what is counted is taken
 * to grow evenly, so the columns of the picture need not be those of the samples.
 */
#include <errno.h>
#include <math.h>

#include "memcp.h"

#define WIDTH   960
#define HEIGHT  560
#define LEFT    80
#define RIGHT   (WIDTH - 30)
#define COLUMNS 212 /* of 4 */

struct panel {
    double top, bottom; /* the larger number is lower */
    double max;         /* value at the top */
    const char *label;
};

struct kind {
    const char *name, *colour;
    size_t offset; /* in a sample */
};

static const struct kind kinds[] = {
    {"precopy", "#4e79a7", offsetof(struct sample, precopy)},
    {"background", "#76b7b2", offsetof(struct sample, background)},
    {"urgent", "#e15759", offsetof(struct sample, urgent)},
    {"zero", "#bab0ac", offsetof(struct sample, zero)},
};
#define KINDS   (sizeof(kinds) / sizeof(kinds[0]))
#define BLOCKED "#f28e2b"

struct picture {
    const struct outcome *outcome;
    FILE *out;
    double seconds;        /* of the whole axis */
    double stop, resume;   /* seconds; < 0: it never came to that */
    double sink_later;     /* seconds to add to the sink's clock */
    double share[COLUMNS]; /* blocked */
    double rate[KINDS][COLUMNS];
};

/* ---- from samples to columns */

static double field(const struct sample *sample, size_t offset)
{
    return (double)*(const uint64_t *)((const char *)sample + offset);
}

/* What was counted at a moment; samples are in order. */
static double value_at(const struct sample *samples, size_t count, size_t offset, double ns)
{
    double before_ns = 0, before = 0;

    for (size_t i = 0; i < count; i++) {
        double at = (double)samples[i].at_ns, value = field(&samples[i], offset);

        if (at >= ns)
            return at > before_ns ? before + (value - before) * (ns - before_ns) / (at - before_ns)
                                  : value;
        before_ns = at;
        before = value;
    }
    return before;
}

/* The growth a second in each column. later: seconds that these samples' clock is behind. */
static void columns_of(const struct picture *picture, const struct sample *samples, size_t count,
                       size_t offset, double later, double *ret)
{
    double step = picture->seconds / COLUMNS, before = 0;

    for (size_t i = 0; i < COLUMNS; i++) {
        double end = ((double)(i + 1) * step - later) * 1e9;
        double value = end > 0 ? value_at(samples, count, offset, end) : 0;

        ret[i] = value > before ? (value - before) / step : 0; /* a peer's numbers may fall */
        before = value;
    }
}

static void prepare(struct picture *picture)
{
    const struct outcome *outcome = picture->outcome;
    const struct result *source = &outcome->source, *sink = &outcome->sink;
    bool ours = outcome->has_source;
    const struct result *first = ours ? source : sink;
    const struct sample *samples = ours ? outcome->source_samples : outcome->sink_samples;

    picture->seconds = (double)first->total_ns / 1e9;
    if (first->samples && (double)samples[first->samples - 1].at_ns / 1e9 > picture->seconds)
        picture->seconds = (double)samples[first->samples - 1].at_ns / 1e9;
    if (!(picture->seconds > 1e-6))
        picture->seconds = 1e-6;
    picture->stop = first->switch_ns ? (double)first->switch_ns / 1e9 : -1;
    picture->resume = picture->stop + (ours ? (double)source->downtime_ns / 1e9 : 0);
    /* Two clocks, of two machines perhaps: what both of them saw is that the sink resumed. */
    if (ours && sink->switch_ns)
        picture->sink_later = picture->resume - (double)sink->switch_ns / 1e9;
    for (size_t k = 0; k < KINDS; k++) {
        columns_of(picture, samples, first->samples, kinds[k].offset, 0, picture->rate[k]);
        for (size_t i = 0; i < COLUMNS; i++)
            picture->rate[k][i] *= (double)outcome->plan.page_bytes / (1 << 20);
    }
    columns_of(picture, outcome->sink_samples, sink->samples, offsetof(struct sample, blocked_ns),
               picture->sink_later, picture->share);
    for (size_t i = 0; i < COLUMNS; i++)
        picture->share[i] /= 1e7; /* ns a second are parts of 1e9; in per cent */
}

/* ---- drawing */

static double x_of(const struct picture *picture, double seconds)
{
    return LEFT + (RIGHT - LEFT) * seconds / picture->seconds;
}

static double y_of(const struct panel *panel, double value)
{
    return panel->bottom - (panel->bottom - panel->top) * value / panel->max;
}

/* 1, 2 or 5 times a power of ten: about so many to the whole. */
static double tick_of(double whole, double about)
{
    double step = pow(10, floor(log10(whole / about)));

    while (whole / step > about)
        step *= whole / step > 2 * about && whole / (2 * step) > about ? 5 : 2;
    return step;
}

static void text(FILE *out, double x, double y, const char *anchor, const char *format,
                 double value)
{
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    fprintf(out, format, value);
    fputs("</text>\n", out);
}

static void value_axis(const struct picture *picture, const struct panel *panel)
{
    double step = tick_of(panel->max, 5);

    for (unsigned i = 0; i * step <= panel->max * 1.0001; i++) {
        double value = i * step;
        double y = y_of(panel, value);

        fprintf(picture->out,
                "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", LEFT, y,
                RIGHT, y);
        text(picture->out, LEFT - 8, y + 4, "end", "%g", value);
    }
    fprintf(picture->out,
            "<text transform=\"translate(22 %.1f) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
            (panel->top + panel->bottom) / 2, panel->label);
}

static void time_axis(const struct picture *picture, const struct panel *panel)
{
    bool small = picture->seconds < 2;
    double unit = small ? 1e-3 : 1, step = tick_of(picture->seconds / unit, 10);

    for (unsigned i = 0; i * step * unit <= picture->seconds * 1.0001; i++) {
        double at = i * step, x = x_of(picture, at * unit);

        fprintf(picture->out,
                "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#888\"/>\n", x,
                panel->bottom, x, panel->bottom + 5);
        text(picture->out, x, panel->bottom + 19, "middle", "%g", at);
    }
    fprintf(picture->out,
            "<text x=\"%d\" y=\"%.1f\" text-anchor=\"middle\">time since the start, %s</text>\n",
            (LEFT + RIGHT) / 2, panel->bottom + 38, small ? "ms" : "s");
}

/* The area between two lines of columns. */
static void area(const struct picture *picture, const struct panel *panel, const double *below,
                 const double *above, const char *colour)
{
    double width = (double)(RIGHT - LEFT) / COLUMNS;

    fputs("<path d=\"", picture->out);
    for (size_t i = 0; i < COLUMNS; i++)
        fprintf(picture->out, "%s%.1f %.1fH%.1f", i ? "L" : "M", LEFT + (double)i * width,
                y_of(panel, above[i]), LEFT + (double)(i + 1) * width);
    for (size_t i = COLUMNS; i-- > 0;)
        fprintf(picture->out, "L%.1f %.1fH%.1f", LEFT + (double)(i + 1) * width,
                y_of(panel, below[i]), LEFT + (double)i * width);
    fprintf(picture->out, "Z\" fill=\"%s\"/>\n", colour);
}

static double highest(const double *values, double least)
{
    for (size_t i = 0; i < COLUMNS; i++)
        least = values[i] > least ? values[i] : least;
    return least;
}

static void draw_rates(const struct picture *picture, struct panel *panel)
{
    double stack[KINDS + 1][COLUMNS] = {{0}};

    for (size_t k = 0; k < KINDS; k++) {
        for (size_t i = 0; i < COLUMNS; i++)
            stack[k + 1][i] = stack[k][i] + picture->rate[k][i];
    }
    panel->max = highest(stack[KINDS], 1) * 1.05;
    value_axis(picture, panel);
    for (size_t k = 0; k < KINDS; k++)
        area(picture, panel, stack[k], stack[k + 1], kinds[k].colour);
}

static void draw_blocked(const struct picture *picture, struct panel *panel)
{
    const double none[COLUMNS] = {0};

    panel->max = highest(picture->share, 100);
    value_axis(picture, panel);
    area(picture, panel, none, picture->share, BLOCKED);
}

/* The program stands still from stop to resume: a band, at least as wide as a line. */
static void draw_switch(const struct picture *picture, const struct panel *top,
                        const struct panel *bottom)
{
    double from = x_of(picture, picture->stop), to = x_of(picture, picture->resume);
    bool late = from > (LEFT + RIGHT) / 2.0;

    if (picture->stop < 0)
        return;
    fprintf(picture->out,
            "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"#222\" "
            "fill-opacity=\"0.3\"/>\n",
            from, top->top - 6, to - from > 1 ? to - from : 1, bottom->bottom - top->top + 6);
    text(picture->out, late ? from - 5 : to + 5, top->top - 2, late ? "end" : "start",
         "switch, %.2f ms of downtime", (picture->resume - picture->stop) * 1e3);
}

static void legend(const struct picture *picture)
{
    double x = LEFT;

    for (size_t k = 0; k <= KINDS; k++) {
        fprintf(picture->out,
                "<rect x=\"%.0f\" y=\"48\" width=\"12\" height=\"12\" fill=\"%s\"/>\n"
                "<text x=\"%.0f\" y=\"58\">%s</text>\n",
                x, k < KINDS ? kinds[k].colour : BLOCKED, x + 18,
                k < KINDS ? kinds[k].name : "blocked");
        x += 110;
    }
}

static void heading(const struct picture *picture)
{
    const struct outcome *outcome = picture->outcome;
    char size[32];

    fprintf(picture->out,
            "<text x=\"%d\" y=\"28\" font-size=\"17\">%s of %s%s memory, by %s (%u), in %.3f s"
            "</text>\n",
            LEFT, size_text((double)outcome->plan.size, size, sizeof(size)),
            outcome->plan.shared ? "shared" : "private",
            outcome->plan.page_bytes > PAGE ? " huge" : "", outcome->transport, outcome->links,
            picture->seconds);
}

int svg_write(const struct outcome *outcome, FILE *out)
{
    struct picture picture = {.outcome = outcome, .out = out};
    struct panel rates = {.top = 90, .bottom = 340, .label = "sent, MiB/s"};
    struct panel blocked = {.top = 370, .bottom = 500, .label = "blocked, % of a thread"};

    errno = 0;
    prepare(&picture);
    fprintf(out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
            "viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"13\" fill=\"#222\">\n"
            "<title>userfault memcp: pages over time</title>\n"
            "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT);
    heading(&picture);
    legend(&picture);
    draw_rates(&picture, &rates);
    draw_blocked(&picture, &blocked);
    draw_switch(&picture, &rates, &blocked);
    time_axis(&picture, &blocked);
    fputs("</svg>\n", out);
    if (fflush(out) == 0 && !ferror(out))
        return 0;
    return errno ? -errno : -EIO;
}
