/* SPDX-License-Identifier: MIT */
/*
 * resume() itself touches a page that is missing, as any other thread of the program's may, and
 * waits for it while the source dies or the links are cut.
 *
 *     this process (judges) --> sink (child) --> source (its child, which stands still when the
 *     touch begins, so the page does not come)
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "move.h"
#include "next.h"

#define FAR      1000 /* a page that comes when it is asked for, and not before */
#define NEXT     (FAR + 64)
#define PATIENCE 60 /* seconds; only a failure takes that long */

enum loss { KILLED, CUT };
enum policy { NO_RECONNECT, GIVES_UP, RECONNECTS };
enum touch { BY_AN_INSTRUCTION, BY_A_CALL, UNHANDLED };

enum lack { NOTHING, POISON, MAPPINGS }; /* of mappings, there are no more; nor is there POISON */

struct story {
    enum loss loss;
    enum policy policy;
    enum touch touch;
    int kind; /* MAP_PRIVATE or MAP_SHARED */
    enum lack lack;
};

static const char *const losses[] = {"the source is killed", "the links are cut"};
static const char *const policies[] = {"no reconnect()", "reconnect() gives up",
                                       "reconnect() brings new links"};
static const char *const touches[] = {"touched by an instruction", "touched by a call",
                                      "touched, and the signal is not handled"};

static const char *const lacks[] = {"", "; without POISON", "; without POISON or mappings"};

static const struct story *story;
static struct uf_postcopy_links next_links[2];
static _Thread_local sigjmp_buf lost;
static volatile sig_atomic_t signals;
static pid_t source_pid;
static _Atomic bool waits, over;
static bool right, touched;

/* ---- in the library's place */

int uf_context_ioctl(int fd, unsigned long request, void *arg)
{
    static int (*_Atomic next)(int, unsigned long, void *);

    if (!next)
        next = (int (*)(int, unsigned long, void *))next_of("uf_context_ioctl");
    if (story && story->lack && request == UF_IO_API &&
        ((struct uf_io_api *)arg)->features & UF_FEATURE_POISON) {
        errno = EINVAL;
        return -1;
    }
    return next(fd, request, arg);
}

/* Part of a mapping gets another protection. */
long uf_syscall(long number, ...)
{
    static long (*_Atomic next)(long, ...);
    long arg[6];
    va_list args;

    if (!next)
        next = (long (*)(long, ...))next_of("uf_syscall");
    va_start(args, number);
    for (size_t i = 0; i < 6; i++)
        arg[i] = va_arg(args, long);
    va_end(args);
    if (story && story->lack == MAPPINGS && number == SYS_mprotect && (size_t)arg[1] < BYTES) {
        errno = ENOMEM;
        return -1;
    }
    return next(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

/* ---- */

/* What a touch came to. */
static void on_bus(int sig)
{
    signals++;
    siglongjmp(lost, 1);
}

static int signal_of(const struct story *of)
{
    return of->lack ? SIGSEGV : SIGBUS;
}

/* Return: whether it could be read, and is what it was. */
static bool read_page(const struct move *move, size_t page)
{
    const char *at = move->to + page * PAGE;
    int ends[2];
    bool read;

    if (story->touch != BY_A_CALL)
        return !sigsetjmp(lost, 1) && !memcmp(at, move->from + page * PAGE, PAGE);
    if (pipe(ends))
        abort();
    read = uf_syscall(SYS_write, ends[1], at, PAGE) == (long)PAGE;
    if (!read && errno != EFAULT)
        abort();
    close(ends[0]);
    close(ends[1]);
    return read;
}

/* When it is known that a thread waits. */
static void *lose(void *arg)
{
    const struct move *move = arg;
    struct uf_postcopy_stats stats;

    do {
        sched_yield();
        uf_sink_stats(move->sink, &stats);
    } while (stats.requests < 2);
    waits = true;
    if (story->loss == KILLED)
        kill(source_pid, SIGKILL);
    else
        each_link(&move->links[1], hang_up);
    return NULL;
}

static int resume_and_wait(void *arg, const void *blob, size_t len)
{
    struct move *move = arg;
    pthread_t loser;
    int status;

    right = read_page(move, FAR);
    if (kill(source_pid, SIGSTOP) || waitpid(source_pid, &status, WUNTRACED) != source_pid)
        abort();
    if (pthread_create(&loser, NULL, lose, move))
        abort();
    touched = read_page(move, NEXT);
    right &= waits && (touched || story->touch == BY_A_CALL || signals == 1);
    /* What has come stays; who comes late does not wait either. */
    right &= read_page(move, FAR) == (story->lack != MAPPINGS);
    right &= touched || (!read_page(move, NEXT) && !read_page(move, NEXT + 1));
    for (size_t page = 0; touched && page < BYTES / PAGE; page++)
        right &= read_page(move, page);
    pthread_join(loser, NULL);
    over = true;
    return 0;
}

static int reconnect_source(void *arg, int error, struct uf_postcopy_links *links)
{
    *links = next_links[0];
    return 0;
}

/* Not behind resume(): who waits in it is woken by what this does. */
static int reconnect_sink(void *arg, int error, struct uf_postcopy_links *links)
{
    right &= waits && !over;
    if (story->policy == GIVES_UP)
        return -ETIMEDOUT;
    kill(source_pid, SIGCONT);
    *links = next_links[1];
    return 0;
}

/* Return: whether the end is what it has to be. */
static bool judge(const struct move *move)
{
    size_t offset = 0;
    bool came = story->policy == RECONNECTS;

    if (came)
        return !move->sink_ret && touched && !memcmp(move->from, move->to, BYTES) &&
               move->sink_stats.recoveries == 1;
    return (move->sink_ret == -ECONNRESET || move->sink_ret == -EPIPE) && !touched &&
           uf_sink_switched(move->sink) && *uf_sink_error(move->sink) &&
           move->sink_stats.pages_lost > 0 &&
           uf_sink_lost(move->sink, 0, NEXT * PAGE, &offset) > 0 && offset == NEXT * PAGE;
}

static int run_story(void)
{
    const struct sigaction act = {.sa_handler = on_bus};
    struct move move = {.kind = story->kind,
                        .how = {.bandwidth_bytes = 1},
                        .sink_how = {.resume = resume_and_wait}};

    alarm(PATIENCE);
    if (story->touch != UNHANDLED)
        uf_sigaction(signal_of(story), &act, NULL);
    if (story->policy != NO_RECONNECT) {
        move.how.reconnect = reconnect_source;
        move.sink_how.reconnect = reconnect_sink;
    }
    prepare(&move);
    pair_links(next_links);
    source_pid = fork();
    if (source_pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close_links(&move.links[1]);
        close_links(&next_links[1]);
        _exit(uf_source_run(move.source, &move.links[0]) != 0);
    }
    close_links(&move.links[0]);
    close_links(&next_links[0]);
    move.sink_ret = uf_sink_run(move.sink, &move.links[1]);
    uf_sink_stats(move.sink, &move.sink_stats);
    right &= over && judge(&move);
    if (!right)
        fprintf(stderr, "# %s; %d, touched %d, %d signals\n", uf_sink_error(move.sink),
                move.sink_ret, touched, (int)signals);
    uf_sink_free(move.sink);
    kill(source_pid, SIGKILL);
    waitpid(source_pid, NULL, 0);
    return right ? 0 : 1;
}

static void check(const struct story *next)
{
    const int wanted = next->touch == UNHANDLED ? signal_of(next) : 0;
    char name[200];
    int status = -1;
    pid_t pid;

    story = next;
    snprintf(name, sizeof(name), "%s amid resume(), %s; %s memory %s%s", losses[next->loss],
             policies[next->policy], next->kind == MAP_SHARED ? "shared" : "private",
             touches[next->touch], lacks[next->lack]);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(run_story());
    }
    waitpid(pid, &status, 0);
    if (status != wanted)
        printf("# %s %d\n", WIFSIGNALED(status) ? "signal" : "ended with",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    point(status == wanted, name);
}

int main(int argc, char **argv)
{
    static const struct story stories[] = {
        {KILLED, NO_RECONNECT, BY_AN_INSTRUCTION, MAP_PRIVATE, NOTHING},
        {KILLED, NO_RECONNECT, BY_AN_INSTRUCTION, MAP_SHARED, NOTHING},
        {KILLED, NO_RECONNECT, BY_A_CALL, MAP_PRIVATE, NOTHING},
        {KILLED, NO_RECONNECT, UNHANDLED, MAP_PRIVATE, NOTHING},
        {KILLED, GIVES_UP, BY_AN_INSTRUCTION, MAP_PRIVATE, NOTHING},
        {KILLED, GIVES_UP, BY_A_CALL, MAP_SHARED, NOTHING},
        {KILLED, GIVES_UP, UNHANDLED, MAP_PRIVATE, NOTHING},
        {CUT, NO_RECONNECT, BY_AN_INSTRUCTION, MAP_PRIVATE, NOTHING},
        {CUT, NO_RECONNECT, BY_A_CALL, MAP_SHARED, NOTHING},
        {CUT, GIVES_UP, BY_AN_INSTRUCTION, MAP_PRIVATE, NOTHING},
        {CUT, GIVES_UP, BY_A_CALL, MAP_SHARED, NOTHING},
        {CUT, RECONNECTS, BY_AN_INSTRUCTION, MAP_PRIVATE, NOTHING},
        {CUT, RECONNECTS, BY_AN_INSTRUCTION, MAP_SHARED, NOTHING},
        {CUT, RECONNECTS, BY_A_CALL, MAP_PRIVATE, NOTHING},
        {KILLED, NO_RECONNECT, BY_AN_INSTRUCTION, MAP_PRIVATE, POISON},
        {KILLED, NO_RECONNECT, BY_AN_INSTRUCTION, MAP_SHARED, POISON},
        {KILLED, NO_RECONNECT, BY_A_CALL, MAP_PRIVATE, POISON},
        {KILLED, NO_RECONNECT, UNHANDLED, MAP_PRIVATE, POISON},
        {CUT, GIVES_UP, BY_AN_INSTRUCTION, MAP_PRIVATE, POISON},
        {CUT, RECONNECTS, BY_AN_INSTRUCTION, MAP_PRIVATE, POISON},
        {KILLED, NO_RECONNECT, BY_AN_INSTRUCTION, MAP_PRIVATE, MAPPINGS},
        {KILLED, NO_RECONNECT, BY_A_CALL, MAP_SHARED, MAPPINGS},
    };

    if (!can_begin(argc, argv))
        return 0;
    for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++)
        check(&stories[i]);
    printf("1..%d\n", points);
    return failed;
}
