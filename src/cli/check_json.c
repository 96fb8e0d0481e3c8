/* SPDX-License-Identifier: MIT */
/* What `userfault check` found, for programs. */
#include <jansson.h>
#include <stdio.h>

#include "check.h"
#include "features.h"

#define CHECK_JSON_VERSION 1

static json_t *json_verdict(enum verdict verdict)
{
    return verdict == VERDICT_NONE ? json_null() : json_boolean(verdict == VERDICT_YES);
}

static json_t *json_facts(const struct check *check)
{
    json_t *facts = json_object();

    for (size_t i = 0; i < check->fact_count; i++) {
        const struct fact *fact = &check->facts[i];

        json_object_set_new(facts, fact->id,
                            json_pack("{s:s,s:s,s:o,s:s}", "group", fact->group, "label",
                                      fact->label, "ok", json_verdict(fact->verdict), "text",
                                      fact->text));
    }
    return facts;
}

static json_t *json_features(uint64_t mask)
{
    json_t *names = json_array();
    const char *name;

    for (unsigned bit = 0; (name = feature_name(bit)); bit++)
        if ((mask >> bit) & 1)
            json_array_append_new(names, json_string(name));
    return json_pack("{s:I,s:o}", "mask", (json_int_t)mask, "names", names);
}

static json_t *json_backends(const struct check *check)
{
    const bool user = check_user_possible(check);
    const char *taken = check->kernel_err == 0 ? "kernel" : user ? "user" : NULL;

    return json_pack("{s:s?,s:b,s:b}", "auto", taken, "kernel", check->kernel_err == 0, "user",
                     user);
}

int check_print_json(const struct check *check)
{
    json_t *advice = json_array();
    json_t *root;

    for (size_t i = 0; i < check->advice_count; i++)
        json_array_append_new(advice, json_string(check->advice[i]));
    root = json_pack("{s:i,s:o,s:o,s:{s:o,s:o},s:I,s:o}", "version", CHECK_JSON_VERSION, "backends",
                     json_backends(check), "facts", json_facts(check), "features", "kernel",
                     json_features(check->kernel_features), "user",
                     json_features(check_user_features(check)), "vma_budget",
                     (json_int_t)(check->max_map_count / 2), "advice", advice);
    int err = root ? json_dumpf(root, stdout, JSON_INDENT(2)) : -1;
    json_decref(root);
    return err == 0 && putchar('\n') != EOF ? 0 : -1;
}
