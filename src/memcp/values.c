/* SPDX-License-Identifier: MIT */
/* What stands behind an option: numbers with units, words, patterns with rates. */
#include <argp.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

/* A number at the start of a text, and what its unit multiplies it by. */
static bool scaled(const char *text, uint64_t *ret, const char **ret_end)
{
    static const char units[] = "KMGT";
    double value;
    char *end;
    const char *unit;

    if (*text < '0' || *text > '9')
        return false;
    value = strtod(text, &end);
    unit = *end ? strchr(units, *end) : NULL;
    if (unit) {
        value *= (double)((uint64_t)1 << 10 * (unit - units + 1));
        end++;
    }
    if (value > 1e18)
        return false;
    *ret = (uint64_t)value;
    *ret_end = end;
    return true;
}

uint64_t value_size(struct argp_state *state, const char *option, const char *text)
{
    uint64_t size = 0;
    const char *end;

    if (!scaled(text, &size, &end) || (*end && strcmp(end, "B") != 0 && strcmp(end, "iB") != 0) ||
        !size)
        argp_error(state, "--%s=%s: not a size, as 512M or 1G", option, text);
    return size;
}

/* Bits are counted in thousands. */
uint64_t value_rate(struct argp_state *state, const char *option, const char *text)
{
    double value = 0, factor = 0;
    uint64_t rate = 0;
    const char *end;
    char *bits = (char *)(uintptr_t)text;

    if (strstr(text, "bit")) {
        value = *text >= '0' && *text <= '9' ? strtod(text, &bits) : 0;
        if (value > 1e9) /* of any of these: no more than is counted in 64 bits */
            value = 0;
        factor = strcmp(bits, "Gbit") == 0   ? 1e9
                 : strcmp(bits, "Mbit") == 0 ? 1e6
                 : strcmp(bits, "kbit") == 0 ? 1e3
                                             : 0;
        rate = (uint64_t)(value * factor / 8);
    } else if (!scaled(text, &rate, &end) || *end) {
        rate = 0;
    }
    if (!rate)
        argp_error(state, "--%s=%s: not bytes a second, as 100M, or bits, as 1Gbit", option, text);
    return rate;
}

unsigned value_number(struct argp_state *state, const char *option, const char *text, unsigned max)
{
    unsigned long value = 0;
    char *end = NULL;

    if (*text >= '0' && *text <= '9')
        value = strtoul(text, &end, 10);
    if (!end || *end || value > max)
        argp_error(state, "--%s=%s: not a number up to %u", option, text, max);
    return (unsigned)value;
}

unsigned value_word(struct argp_state *state, const char *option, const char *text,
                    const char *const *words, const char *which)
{
    for (unsigned i = 0; words[i]; i++) {
        if (strcmp(words[i], text) == 0)
            return i;
    }
    argp_error(state, "--%s=%s: not %s", option, text, which);
    return 0;
}

/* Counts are in thousands. Of how many pages a share is, who has them all knows. */
static bool pages_a_second(const char *text, uint64_t *ret, bool *ret_percent)
{
    double value;
    char *end;

    *ret_percent = false;
    if (strcmp(text, "max") == 0) {
        *ret = RATE_MAX;
        return true;
    }
    if (*text < '0' || *text > '9')
        return false;
    value = strtod(text, &end);
    if (strcmp(end, "k") == 0 || strcmp(end, "M") == 0) {
        value *= *end == 'k' ? 1e3 : 1e6;
        end++;
    }
    *ret_percent = strcmp(end, "%") == 0;
    if (!(value >= 1 && value < 1e12))
        return false;
    *ret = (uint64_t)value;
    return *ret_percent || !*end;
}

/* What stands before the colon. Return: whether it is a pattern. */
static bool pattern(const char *text, size_t len, struct pace *pace, uint64_t *ret_once)
{
    const char *end;

    if (len > 4 && strncmp(text, "hot=", 4) == 0) {
        pace->pattern = PATTERN_HOT;
        return scaled(text + 4, &pace->hot_bytes, &end) && end == text + len &&
               pace->hot_bytes >= PAGE;
    }
    if (len == 3 && strncmp(text, "seq", 3) == 0)
        pace->pattern = PATTERN_SEQ;
    else if (len == 6 && strncmp(text, "random", 6) == 0)
        pace->pattern = PATTERN_RANDOM;
    else if (len == 4 && strncmp(text, "once", 4) == 0 && ret_once)
        *ret_once = 1;
    else
        return false;
    return true;
}

void value_pace(struct argp_state *state, const char *option, const char *text, struct pace *pace,
                bool *ret_percent, uint64_t *ret_once)
{
    const char *colon = strrchr(text, ':');

    *pace = (struct pace){0};
    *ret_percent = false;
    if (strcmp(text, "none") == 0)
        return;
    if (!colon || !pattern(text, (size_t)(colon - text), pace, ret_once) ||
        !pages_a_second(colon + 1, &pace->rate, ret_percent))
        argp_error(state,
                   "--%s=%s: not seq, random%s or hot=SIZE, a colon, and pages a second, max or a "
                   "share as 10%%; nor none",
                   option, text, ret_once ? ", once" : "");
}

void value_reconnect(struct argp_state *state, const char *option, const char *text,
                     struct side_options *ret)
{
    unsigned long seconds = 0, times = 0;
    const bool good = *text >= '0' && *text <= '9';
    char *end = (char *)(uintptr_t)text;

    if (good)
        seconds = strtoul(text, &end, 10);
    if (good && *end == ',' && end[1] >= '1' && end[1] <= '9')
        times = strtoul(end + 1, &end, 10);
    if (!good || *end || seconds > RECONNECT_MAX_S || times > UINT32_MAX)
        argp_error(state, "--%s=%s: not seconds, up to a day, and perhaps how often, as 60 or 60,3",
                   option, text);
    ret->reconnect_given = true;
    ret->reconnect_s = (unsigned)seconds;
    ret->reconnects = (unsigned)times;
}
