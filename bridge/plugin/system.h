/* A thread, a clock and a UDP socket of this machine: POSIX, and Windows. */
#ifndef MUSEBRIDGE_SYSTEM_H
#define MUSEBRIDGE_SYSTEM_H

#include <string.h>

#ifdef _WIN32
#include <winsock2.h>
#include <windows.h>
typedef SOCKET Socket;
typedef HANDLE Thread;
#define THREAD_RESULT DWORD WINAPI
typedef LPTHREAD_START_ROUTINE ThreadMain;
static int thread_start(Thread *thread, ThreadMain main, void *argument) {
    return (*thread = CreateThread(0, 0, main, argument, 0, 0)) != 0;
}
static void thread_join(Thread thread) {
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}
static double now_seconds(void) {
    LARGE_INTEGER count, frequency;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&frequency);
    return (double)count.QuadPart / (double)frequency.QuadPart;
}
static void socket_close(Socket one) {
    closesocket(one);
    WSACleanup();
}
static int socket_start(void) {
    WSADATA data;
    return WSAStartup(MAKEWORD(2, 2), &data) == 0;
}
static void socket_unblock(Socket one) {
    u_long yes = 1;
    ioctlsocket(one, FIONBIO, &yes);
}
typedef int SocketSize;
#else
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#define INVALID_SOCKET (-1)
typedef int Socket;
typedef pthread_t Thread;
#define THREAD_RESULT void *
typedef void *(*ThreadMain)(void *);
static int thread_start(Thread *thread, ThreadMain main, void *argument) {
    return pthread_create(thread, 0, main, argument) == 0;
}
static void thread_join(Thread thread) { pthread_join(thread, 0); }
static double now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}
static void socket_close(Socket one) { close(one); }
static int socket_start(void) { return 1; }
static void socket_unblock(Socket one) { fcntl(one, F_SETFL, fcntl(one, F_GETFL, 0) | O_NONBLOCK); }
typedef socklen_t SocketSize;
#endif

static struct sockaddr_in socket_here(int port) {
    struct sockaddr_in here;
    memset(&here, 0, sizeof here);
    here.sin_family = AF_INET;
    here.sin_port = htons((unsigned short)port);
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return here;
}

/* Open a socket that this machine alone can reach. Return whether that went well. */
static int socket_open(Socket *one) {
    struct sockaddr_in here = socket_here(0);
    if (!socket_start()) return 0;
    *one = socket(AF_INET, SOCK_DGRAM, 0);
    if (*one == INVALID_SOCKET) return 0;
    socket_unblock(*one);
    if (bind(*one, (struct sockaddr *)&here, sizeof here) == 0) return 1;
    socket_close(*one);
    return 0;
}

static void socket_send(Socket one, int port, const char *data, int size) {
    struct sockaddr_in there = socket_here(port);
    sendto(one, data, (size_t)size, 0, (struct sockaddr *)&there, sizeof there);
}

/* Return the size of a datagram that came from a port: 0 for one from elsewhere, -1 if there is none. */
static int socket_receive(Socket one, int port, char *data, int most) {
    struct sockaddr_in from;
    SocketSize length = sizeof from;
    int size = (int)recvfrom(one, data, (size_t)most, 0, (struct sockaddr *)&from, &length);
    return size >= 0 && from.sin_port != htons((unsigned short)port) ? 0 : size;
}

/* Wait until something came, or for so many microseconds. */
static void socket_wait(Socket one, long microseconds) {
    struct timeval patience = {0, (int)microseconds};
    fd_set waited;
    FD_ZERO(&waited);
    FD_SET(one, &waited);
    select((int)one + 1, &waited, 0, 0, &patience);
}

#endif
