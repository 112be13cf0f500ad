// Stands in for Apple's libdispatch: queues, and blocks that are run on them.
#pragma once

#include <cstddef>

typedef struct dispatch_queue_s* dispatch_queue_t;
typedef struct dispatch_data_s* dispatch_data_t;
typedef struct dispatch_semaphore_s* dispatch_semaphore_t;
typedef long dispatch_once_t;
typedef void (^dispatch_block_t)(void);
#define DISPATCH_DATA_DESTRUCTOR_DEFAULT nullptr
#define DISPATCH_TIME_FOREVER (~0ull)
extern "C" {
void dispatch_sync(dispatch_queue_t queue, dispatch_block_t block);
void dispatch_async(dispatch_queue_t queue, dispatch_block_t block);
void dispatch_once(dispatch_once_t* token, dispatch_block_t block);
void dispatch_release(void* object);
dispatch_queue_t dispatch_get_main_queue(void);
dispatch_queue_t dispatch_queue_create(const char* label, void* attribute);
dispatch_data_t dispatch_data_create(
    const void* bytes, std::size_t size, dispatch_queue_t queue, dispatch_block_t destructor);
dispatch_semaphore_t dispatch_semaphore_create(long value);
long dispatch_semaphore_wait(dispatch_semaphore_t semaphore, unsigned long long timeout);
long dispatch_semaphore_signal(dispatch_semaphore_t semaphore);
}
