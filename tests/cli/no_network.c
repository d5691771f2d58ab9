/* Preloaded into the program: every internet socket is refused and written down. With it a test proves
 * that a verb opens no outbound connection (and that `pull`, which must, is caught). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

int socket(int domain, int type, int protocol) {
  if (domain == AF_INET || domain == AF_INET6) {
    const char* path = getenv("LODE_NETWORK_LOG");
    FILE* log = path ? fopen(path, "a") : NULL;
    if (log) {
      fprintf(log, "socket(%d)\n", domain);
      fclose(log);
    }
    errno = EACCES;
    return -1;
  }
  int (*next)(int, int, int) = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
  return next(domain, type, protocol);
}
