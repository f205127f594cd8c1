/* SPDX-License-Identifier: MIT */
/*
 * Load for TCP, as lean as it can be: a thread with blocking calls for each connection, so that what is between client and server
 * is what costs.
 *
 *   load serve                        prints its port; ends with its standard input
 *   load ping PORT CONNECTIONS MS     64 bytes there and back, again and again on each connection
 *   load bulk PORT CONNECTIONS MS     sends as much as it can
 *   load answered PORT CONNECTIONS MS sends a MiB, waits for an answer, and so on
 *   load steady PORT MB MS            sends so many MB a second on one connection
 *   load connect PORT MS              connections one after the other: made, one byte there and back, closed
 *
 * A client's first byte says what it wants: 'e', that all is sent back; 's', that bytes are counted and the number is told once they
 * end; or 'a', that it is told each time another MiB has come. Clients check what they get, and print what they measured as JSON, in nanoseconds.
 * One that is not done LOAD_PATIENCE_S seconds (30) behind its time gives up.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PING_BYTES = 64, BULK_BYTES = 65536, ANSWERED_BYTES = 1 << 20, SERVERS = 128, MAX_CONNECTIONS = 128, MOST_SAMPLES = 1 << 20, SETTLE_MS = 30, PATIENCE_S = 30 };
#define MS 1000000ull

static _Noreturn void fail(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	vfprintf(stderr, format, list);
	fprintf(stderr, "\n");
	exit(1);
}

/* A proxy that loses bytes would have a client wait for good. */
static void late(int signal)
{
	(void)signal;
	static const char text[] = "the load is not over long behind its time: bytes were lost, or are held back\n";
	_exit(write(2, text, sizeof(text) - 1) > 0 ? 1 : 2);
}

static uint64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000 * MS + time.tv_nsec;
}

static void wait_ms(unsigned ms)
{
	struct timespec time = {.tv_nsec = ms * MS};
	nanosleep(&time, NULL);
}

static void no_delay(int fd)
{
	int on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/*
 * Whether a call that failed is to be made again. A blocking receive at a socket of a sockhash gives EAGAIN where the connection's
 * end comes while it waits (tcp_bpf_recvmsg, net/ipv4/tcp_bpf.c, v6.18).
 */
static int is_again(ssize_t result)
{
	return result < 0 && (errno == EAGAIN || errno == EINTR);
}

static int send_all(int fd, const void *bytes, size_t length)
{
	for (size_t at = 0; at < length;) {
		ssize_t sent = send(fd, (const char *)bytes + at, length - at, MSG_NOSIGNAL);
		if (is_again(sent))
			continue;
		if (sent < 0)
			return -1;
		at += sent;
	}
	return 0;
}

/* Bytes that came: `length`, or fewer where the connection ended. */
static size_t receive_all(int fd, void *bytes, size_t length)
{
	size_t at = 0;
	while (at < length) {
		ssize_t received = recv(fd, (char *)bytes + at, length - at, 0);
		if (is_again(received))
			continue;
		if (received <= 0)
			break;
		at += received;
	}
	return at;
}

static void serve_one(int fd, char *buffer)
{
	char wish;
	if (receive_all(fd, &wish, 1) != 1)
		return;
	uint64_t count = 0;
	ssize_t received;
	if (wish == 'e' && send_all(fd, &wish, 1) < 0)
		return;
	while ((received = recv(fd, buffer, BULK_BYTES * 4, 0)) > 0 || is_again(received)) {
		if (received < 0)
			continue;
		uint64_t before = count;
		count += received;
		if (wish == 'e' && send_all(fd, buffer, received) < 0)
			return;
		if (wish == 'a' && count / ANSWERED_BYTES > before / ANSWERED_BYTES && send_all(fd, &count, sizeof(count)) < 0)
			return;
	}
	if (wish == 's')
		send_all(fd, &count, sizeof(count));
}

static void *server(void *listener)
{
	char *buffer = malloc(BULK_BYTES * 4);
	for (;;) {
		int fd = accept((int)(intptr_t)listener, NULL, NULL);
		if (fd < 0)
			continue;
		no_delay(fd);
		serve_one(fd, buffer);
		close(fd);
	}
}

static int serve(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (void *)&address, length) < 0 || listen(listener, 1024) < 0 ||
	    getsockname(listener, (void *)&address, &length) < 0)
		fail("the server does not listen: %s", strerror(errno));
	for (int i = 0; i < SERVERS; i++) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, server, (void *)(intptr_t)listener))
			fail("no thread for the server");
	}
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);
	for (char byte; read(0, &byte, 1) > 0;)
		;
	return 0;
}

static uint16_t port;
static uint64_t duration;
/* ns that must go by for 65,536 bytes on a connection; 0: as fast as it can */
static uint64_t pace;
static pthread_barrier_t start;

static int connected(char wish)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (void *)&address, sizeof(address)) < 0)
		fail("no connection to port %d: %s", port, strerror(errno));
	no_delay(fd);
	char back = wish;
	if (send_all(fd, &wish, 1) < 0 || (wish == 'e' && (receive_all(fd, &back, 1) != 1 || back != wish)))
		fail("a new connection to port %d did not give back its first byte", port);
	return fd;
}

struct job {
	pthread_t thread;
	uint64_t bytes, end;
	uint32_t *samples;
	size_t count;
};

static void *ping(void *given)
{
	struct job *job = given;
	int fd = connected('e');
	job->samples = malloc(MOST_SAMPLES * sizeof(*job->samples));
	uint64_t out[PING_BYTES / 8] = {0}, back[PING_BYTES / 8];
	wait_ms(SETTLE_MS);
	pthread_barrier_wait(&start);
	uint64_t begin = now(), warm = begin + duration / 10, end = begin + duration;
	for (uint64_t before = begin, after; before < end && job->count < MOST_SAMPLES; before = after) {
		out[0]++;
		if (send_all(fd, out, sizeof(out)) < 0 || receive_all(fd, back, sizeof(back)) != sizeof(back) ||
		    memcmp(out, back, sizeof(out)))
			fail("what came back is not what was sent");
		after = now();
		if (before >= warm)
			job->samples[job->count++] = after - before;
	}
	close(fd);
	return NULL;
}

static void *bulk(void *given)
{
	struct job *job = given;
	static char bytes[BULK_BYTES];
	int fd = connected('s');
	wait_ms(SETTLE_MS);
	pthread_barrier_wait(&start);
	for (uint64_t begin = now(), due = begin, end = begin + duration; now() < end; job->bytes += BULK_BYTES, due += pace) {
		while (pace && now() < due)
			wait_ms(1);
		if (send_all(fd, bytes, BULK_BYTES) < 0)
			fail("the connection broke after %llu bytes: %s", (unsigned long long)job->bytes, strerror(errno));
	}
	uint64_t arrived = 0;
	shutdown(fd, SHUT_WR);
	if (receive_all(fd, &arrived, sizeof(arrived)) != sizeof(arrived) || arrived != job->bytes)
		fail("%llu of %llu bytes arrived", (unsigned long long)arrived, (unsigned long long)job->bytes);
	job->end = now();
	close(fd);
	return NULL;
}

static void *answered(void *given)
{
	struct job *job = given;
	static char bytes[BULK_BYTES];
	int fd = connected('a');
	wait_ms(SETTLE_MS);
	pthread_barrier_wait(&start);
	for (uint64_t end = now() + duration; now() < end;) {
		uint64_t arrived = 0;
		for (size_t at = 0; at < ANSWERED_BYTES; at += BULK_BYTES)
			if (send_all(fd, bytes, BULK_BYTES) < 0)
				fail("the connection broke after %llu bytes: %s", (unsigned long long)job->bytes, strerror(errno));
		job->bytes += ANSWERED_BYTES;
		if (receive_all(fd, &arrived, sizeof(arrived)) != sizeof(arrived) || arrived != job->bytes)
			fail("%llu of %llu bytes arrived", (unsigned long long)arrived, (unsigned long long)job->bytes);
	}
	job->end = now();
	close(fd);
	return NULL;
}

static int by_value(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
	return a < b ? -1 : a > b;
}

static int run(void *(*work)(void *), int connections)
{
	static struct job jobs[MAX_CONNECTIONS];
	if (connections < 1 || connections > MAX_CONNECTIONS)
		fail("%d connections, expected 1..%d", connections, MAX_CONNECTIONS);
	pthread_barrier_init(&start, NULL, connections + 1);
	for (int i = 0; i < connections; i++)
		if (pthread_create(&jobs[i].thread, NULL, work, &jobs[i]))
			fail("no thread for a connection");
	pthread_barrier_wait(&start);
	uint64_t begin = now(), end = 0, bytes = 0;
	size_t count = 0;
	for (int i = 0; i < connections; i++) {
		pthread_join(jobs[i].thread, NULL);
		bytes += jobs[i].bytes;
		count += jobs[i].count;
		end = jobs[i].end > end ? jobs[i].end : end;
	}
	if (work != ping) {
		printf("{\"bytes\":%llu,\"ns\":%llu}\n", (unsigned long long)bytes, (unsigned long long)(end - begin));
		return 0;
	}
	if (count == 0)
		fail("nothing came back within the time");
	uint32_t *all = malloc(count * sizeof(*all));
	size_t at = 0;
	for (int i = 0; i < connections; i++) {
		memcpy(all + at, jobs[i].samples, jobs[i].count * sizeof(*all));
		at += jobs[i].count;
	}
	qsort(all, count, sizeof(*all), by_value);
	printf("{\"count\":%zu,\"p50\":%u,\"p99\":%u}\n", count, all[count / 2], all[(size_t)(count * 0.99)]);
	return 0;
}

static int connects(void)
{
	uint64_t count = 0, begin = now(), end;
	do {
		close(connected('e'));
		count++;
		end = now();
	} while (end < begin + duration);
	printf("{\"count\":%llu,\"ns\":%llu}\n", (unsigned long long)count, (unsigned long long)(end - begin));
	return 0;
}

int main(int count, char **argument)
{
	const char *what = count > 1 ? argument[1] : "";
	if (!strcmp(what, "serve") && count == 2)
		return serve();
	if (count > 3) {
		port = atoi(argument[2]);
		duration = atoll(argument[count - 1]) * MS;
		signal(SIGALRM, late);
		const char *patience = getenv("LOAD_PATIENCE_S");
		alarm(duration / (1000 * MS) + (patience ? atoi(patience) : PATIENCE_S));
	}
	if (!strcmp(what, "ping") && count == 5)
		return run(ping, atoi(argument[3]));
	if (!strcmp(what, "bulk") && count == 5)
		return run(bulk, atoi(argument[3]));
	if (!strcmp(what, "answered") && count == 5)
		return run(answered, atoi(argument[3]));
	if (!strcmp(what, "steady") && count == 5 && atoi(argument[3]) > 0) {
		pace = BULK_BYTES * 1000ull / atoi(argument[3]);
		return run(bulk, 1);
	}
	if (!strcmp(what, "connect") && count == 4)
		return connects();
	fail("usage: load serve | ping PORT CONNECTIONS MS | bulk PORT CONNECTIONS MS | answered PORT CONNECTIONS MS |"
	     " steady PORT MB MS | connect PORT MS");
}
