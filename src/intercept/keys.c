/* SPDX-License-Identifier: MIT */
/* keyctl and bpf: calls that are many in one, each with arguments of its own. */
#include <linux/bpf.h>
#include <linux/keyctl.h>

#include "core/core.h"
#include "sys/call.h"
#include "walk.h"

#define LEN_MAX ((size_t)1 << 26) /* of anything: more than that neither takes */

static long reads(struct walk *walk, uint64_t addr, size_t len)
{
    return len > LEN_MAX ? 0 : walk_span(walk, addr, len, ARCH_READ);
}

static long writes(struct walk *walk, uint64_t addr, size_t len)
{
    return len > LEN_MAX ? 0 : walk_span(walk, addr, len, ARCH_WRITE);
}

/* ---- keyctl */

#define TYPE_MAX 32 /* of a key's type; the kernel's strings are at most a page */
#define TEXT_MAX 4096

static long two_texts(struct walk *walk, long first, long second)
{
    long ret = walk_string(walk, (uintptr_t)first, TYPE_MAX);

    return ret ? ret : walk_string(walk, (uintptr_t)second, TEXT_MAX);
}

/* Operations with a pair of keys: how long their data is stands in a structure. */
static long pkey(struct walk *walk)
{
    const long *args = walk->args;
    struct keyctl_pkey_params params;
    long ret = walk_fetch(walk, (uintptr_t)args[1], &params, sizeof params, ARCH_READ);

    ret = ret ? ret : walk_string(walk, (uintptr_t)args[2], TEXT_MAX);
    ret = ret ? ret : reads(walk, (uint64_t)args[3], params.in_len);
    if (ret) {
        return ret;
    }
    return args[0] == KEYCTL_PKEY_VERIFY ? reads(walk, (uint64_t)args[4], params.in2_len)
                                         : writes(walk, (uint64_t)args[4], params.out_len);
}

static long diffie_hellman(struct walk *walk)
{
    const long *args = walk->args;
    struct keyctl_kdf_params kdf;
    long ret = reads(walk, (uint64_t)args[1], sizeof(struct keyctl_dh_params));

    if (ret == 0 && args[4]) {
        ret = walk_fetch(walk, (uintptr_t)args[4], &kdf, sizeof kdf, ARCH_READ);
        ret = ret ? ret : walk_string(walk, (uintptr_t)kdf.hashname, TEXT_MAX);
        ret = ret ? ret : reads(walk, (uintptr_t)kdf.otherinfo, kdf.otherinfolen);
    }
    return ret ? ret : writes(walk, (uint64_t)args[2], (size_t)args[3]);
}

long walk_keyctl(struct walk *walk)
{
    const long *args = walk->args;
    long ret;

    switch (args[0]) {
    case KEYCTL_JOIN_SESSION_KEYRING:
        return walk_string(walk, (uintptr_t)args[1], TEXT_MAX);
    case KEYCTL_UPDATE:
    case KEYCTL_INSTANTIATE:
        return reads(walk, (uint64_t)args[2], (size_t)args[3]);
    case KEYCTL_INSTANTIATE_IOV:
        return walk_vectors(walk, (uintptr_t)args[2], (size_t)args[3], ARCH_READ);
    case KEYCTL_DESCRIBE:
    case KEYCTL_READ:
    case KEYCTL_GET_SECURITY:
        return writes(walk, (uint64_t)args[2], (size_t)args[3]);
    case KEYCTL_CAPABILITIES:
        return writes(walk, (uint64_t)args[1], (size_t)args[2]);
    case KEYCTL_SEARCH:
    case KEYCTL_RESTRICT_KEYRING:
        return two_texts(walk, args[2], args[3]);
    case KEYCTL_DH_COMPUTE:
        return diffie_hellman(walk);
    case KEYCTL_PKEY_QUERY:
        ret = walk_string(walk, (uintptr_t)args[3], TEXT_MAX);
        return ret ? ret : writes(walk, (uint64_t)args[4], sizeof(struct keyctl_pkey_query));
    case KEYCTL_PKEY_ENCRYPT:
    case KEYCTL_PKEY_DECRYPT:
    case KEYCTL_PKEY_SIGN:
    case KEYCTL_PKEY_VERIFY:
        return pkey(walk);
    default:
        return 0;
    }
}

/* ---- bpf */

/* What is to be known of a map. Return: whether the kernel told. */
static bool map_known(unsigned fd, struct bpf_map_info *ret_info)
{
    union bpf_attr attr = {
        .info = {.bpf_fd = fd, .info_len = sizeof *ret_info, .info = (uintptr_t)ret_info}};

    return sys_call(SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof attr) == 0;
}

static long map_element(struct walk *walk, long cmd, const union bpf_attr *attr)
{
    struct bpf_map_info map = {0};
    long ret;

    if (!map_known(attr->map_fd, &map)) {
        return 0;
    }
    ret = reads(walk, attr->key, map.key_size);
    if (ret || cmd == BPF_MAP_DELETE_ELEM) {
        return ret;
    }
    if (cmd == BPF_MAP_UPDATE_ELEM) {
        return reads(walk, attr->value, map.value_size);
    }
    return writes(walk, attr->value, cmd == BPF_MAP_GET_NEXT_KEY ? map.key_size : map.value_size);
}

static long map_batch(struct walk *walk, long cmd, const union bpf_attr *attr)
{
    bool out = cmd == BPF_MAP_LOOKUP_BATCH || cmd == BPF_MAP_LOOKUP_AND_DELETE_BATCH;
    struct bpf_map_info map = {0};
    long ret;

    if (!map_known(attr->batch.map_fd, &map)) {
        return 0;
    }
    ret = out ? reads(walk, attr->batch.in_batch, map.key_size) : 0;
    ret = ret ? ret
              : walk_as(walk, out ? ARG_OUT : ARG_IN, attr->batch.keys,
                        (size_t)map.key_size * attr->batch.count);
    ret = ret || cmd == BPF_MAP_DELETE_BATCH
              ? ret
              : walk_as(walk, out ? ARG_OUT : ARG_IN, attr->batch.values,
                        (size_t)map.value_size * attr->batch.count);
    return ret || !out ? ret : writes(walk, attr->batch.out_batch, map.key_size);
}

static long program(struct walk *walk, const union bpf_attr *attr)
{
    long ret = walk_string(walk, attr->license, 128);

    ret = ret ? ret : reads(walk, attr->insns, attr->insn_cnt * sizeof(struct bpf_insn));
    ret =
        ret ? ret
            : reads(walk, attr->func_info, (size_t)attr->func_info_rec_size * attr->func_info_cnt);
    ret =
        ret ? ret
            : reads(walk, attr->line_info, (size_t)attr->line_info_rec_size * attr->line_info_cnt);
    return ret || !attr->log_level ? ret : writes(walk, attr->log_buf, attr->log_size);
}

static long test_run(struct walk *walk, const union bpf_attr *attr)
{
    long ret = reads(walk, attr->test.data_in, attr->test.data_size_in);

    ret = ret ? ret : reads(walk, attr->test.ctx_in, attr->test.ctx_size_in);
    ret = ret ? ret : writes(walk, attr->test.data_out, attr->test.data_size_out);
    return ret ? ret : writes(walk, attr->test.ctx_out, attr->test.ctx_size_out);
}

static long behind(struct walk *walk, long cmd, const union bpf_attr *attr)
{
    long ret;

    switch (cmd) {
    case BPF_MAP_LOOKUP_ELEM:
    case BPF_MAP_UPDATE_ELEM:
    case BPF_MAP_DELETE_ELEM:
    case BPF_MAP_GET_NEXT_KEY:
    case BPF_MAP_LOOKUP_AND_DELETE_ELEM:
        return map_element(walk, cmd, attr);
    case BPF_MAP_LOOKUP_BATCH:
    case BPF_MAP_LOOKUP_AND_DELETE_BATCH:
    case BPF_MAP_UPDATE_BATCH:
    case BPF_MAP_DELETE_BATCH:
        return map_batch(walk, cmd, attr);
    case BPF_PROG_LOAD:
        return program(walk, attr);
    case BPF_PROG_TEST_RUN:
        return test_run(walk, attr);
    case BPF_OBJ_PIN:
    case BPF_OBJ_GET:
        return walk_string(walk, attr->pathname, TEXT_MAX);
    case BPF_OBJ_GET_INFO_BY_FD:
        return walk_both(walk, attr->info.info, attr->info.info_len);
    case BPF_PROG_QUERY:
        return writes(walk, attr->query.prog_ids, attr->query.prog_cnt * sizeof(uint32_t));
    case BPF_RAW_TRACEPOINT_OPEN:
        return walk_string(walk, attr->raw_tracepoint.name, 128);
    case BPF_BTF_LOAD:
        ret = reads(walk, attr->btf, attr->btf_size);
        return ret || !attr->btf_log_level ? ret
                                           : writes(walk, attr->btf_log_buf, attr->btf_log_size);
    case BPF_TASK_FD_QUERY:
        return writes(walk, attr->task_fd_query.buf, attr->task_fd_query.buf_len);
    default:
        return 0;
    }
}

long walk_bpf(struct walk *walk)
{
    uintptr_t addr = (uintptr_t)walk->args[1];
    size_t size = (unsigned)walk->args[2];
    union bpf_attr attr = {.map_type = 0};
    long ret;

    if (!addr || size > LEN_MAX) {
        return 0;
    }
    ret = walk_fetch(walk, addr, &attr, size < sizeof attr ? size : sizeof attr, ARCH_READ);
    ret = ret ? ret : behind(walk, walk->args[0], &attr);
    return ret ? ret : walk_span(walk, addr, size, ARCH_WRITE);
}

bool walk_bpf_acts(long cmd)
{
    return cmd == BPF_MAP_LOOKUP_AND_DELETE_ELEM || cmd == BPF_MAP_LOOKUP_AND_DELETE_BATCH ||
           cmd == BPF_PROG_TEST_RUN;
}
