/* SPDX-License-Identifier: Apache-2.0 */
/* Sharing device memory between the ranks of one host. */
#include "transport/cuda/sharing.h"

#include "core/error.h"
#include "transport/shm/collective.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define PHASE_AGREE "agree" /* on what each rank wants */
#define PHASE_SHARE "share" /* the handles */
#define PHASE_MAP   "map"   /* and whether all could be mapped */

/* What a rank tells the others of its part. */
typedef struct notice {
    uint64_t bytes;
    uint64_t offset;       /* of the part in what the handle stands for */
    uint64_t handle_bytes; /* of what the handle stands for */
    uint64_t address;      /* for ranks of the same process */
    uint32_t kind;         /* cuda_sharing_kind_t */
    int32_t ordinal;       /* of the GPU that the memory is on */
    CUipcMemHandle ipc;
} notice_t;

_Static_assert(sizeof(notice_t) <= BOOTSTRAP_BYTES_MAX, "a notice is one part of an allgather");

static uint64_t whole_pages(uint64_t bytes)
{
    return memory_round_up(bytes, CUDA_PAGE_BYTES);
}

static moxie_status_t tell(const cuda_sharing_call_t *call, const char *phase,
                           const notice_t *notice, int fd, moxie_status_t local)
{
    return shm_round(call->host, phase, "memory", notice, sizeof(*notice), fd, local);
}

static notice_t notice_of(const shm_transport_t *host, int32_t rank)
{
    notice_t notice;
    memcpy(&notice, host->parts[rank].data, sizeof(notice));
    return notice;
}

/* What all ranks on this GPU want together against the memory that it has left. */
static moxie_status_t check_total(const cuda_sharing_call_t *call)
{
    uint64_t need = 0;
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    for (int32_t rank = 0; rank < call->host->rank_count; rank++) {
        const notice_t notice = notice_of(call->host, rank);
        if (notice.ordinal == call->device->ordinal) {
            const uint64_t pages = notice.bytes > INT64_MAX ? INT64_MAX : whole_pages(notice.bytes);
            need = need > UINT64_MAX - pages ? UINT64_MAX : need + pages;
        }
    }
    const moxie_status_t status =
        cuda_check(cuda()->cuMemGetInfo(&free_bytes, &total_bytes), "asking for free memory");
    if (status != MOXIE_OK || need <= free_bytes) {
        return status;
    }
    error_set(MOXIE_ERR_MEMORY,
              "%s would take %" PRIu64 " bytes of GPU %d and it has %" PRIu64 " bytes free",
              call->name, need, call->device->ordinal, (uint64_t)free_bytes);
    error_detail()->expected = (int64_t)need;
    error_detail()->observed = (int64_t)free_bytes;
    return MOXIE_ERR_MEMORY;
}

static CUmemAllocationProp allocation_of(const cuda_device_t *device)
{
    return (CUmemAllocationProp){
        .type = CU_MEM_ALLOCATION_TYPE_PINNED,
        .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
        .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device->ordinal}};
}

/* Maps a physical allocation for this rank's GPU. */
static moxie_status_t map_handle(const cuda_device_t *device, CUmemGenericAllocationHandle handle,
                                 uint64_t bytes, cuda_part_t *part)
{
    CUdeviceptr address = 0;
    moxie_status_t status =
        cuda_check(cuda()->cuMemAddressReserve(&address, bytes, CUDA_PAGE_BYTES, 0, 0),
                   "reserving addresses for device memory");
    if (status != MOXIE_OK) {
        return status;
    }
    status = cuda_check(cuda()->cuMemMap(address, bytes, 0, handle, 0), "mapping device memory");
    if (status != MOXIE_OK) {
        cuda()->cuMemAddressFree(address, bytes);
        return status;
    }
    part->mapping = (char *)(uintptr_t)address;
    part->mapped_bytes = bytes;
    part->kind = CUDA_SHARING_FD;
    const CUmemAccessDesc access = {
        .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device->ordinal},
        .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    return cuda_check(cuda()->cuMemSetAccess(address, bytes, &access, 1),
                      "access of this GPU to a peer's memory");
}

static void unmap_part(cuda_part_t *part)
{
    const CUdeviceptr address = (CUdeviceptr)(uintptr_t)part->mapping;
    if (part->kind == CUDA_SHARING_FD) {
        cuda()->cuMemUnmap(address, part->mapped_bytes);
        cuda()->cuMemAddressFree(address, part->mapped_bytes);
    } else if (part->kind == CUDA_SHARING_IPC) {
        cuda()->cuIpcCloseMemHandle(address);
    }
    memset(part, 0, sizeof(*part));
}

/* This rank's own memory, zeroed, and a descriptor of it. The handle itself need not be kept: the
 * mapping holds the memory. */
static moxie_status_t create_own(const cuda_sharing_call_t *call, uint64_t bytes,
                                 cuda_sharing_t *sharing, int *fd)
{
    cuda_part_t *part = &sharing->parts[sharing->rank];
    const CUmemAllocationProp properties = allocation_of(call->device);
    const uint64_t pages = whole_pages(bytes);
    CUmemGenericAllocationHandle handle;
    if (bytes == 0) {
        return MOXIE_OK;
    }
    moxie_status_t status =
        cuda_check(cuda()->cuMemCreate(&handle, pages, &properties, 0), "device memory");
    if (status != MOXIE_OK) {
        return status;
    }
    status = map_handle(call->device, handle, pages, part);
    if (status == MOXIE_OK) {
        part->base = part->mapping;
        part->bytes = bytes;
        sharing->charged_bytes = pages;
        call->host->account->device_bytes += pages;
        status = cuda_check(
            cuda()->cuMemsetD8Async((CUdeviceptr)(uintptr_t)part->base, 0, pages, call->stream),
            "zeroing device memory");
    }
    if (status == MOXIE_OK) {
        status = cuda_check(cuda()->cuStreamSynchronize(call->stream), "zeroing device memory");
    }
    if (status == MOXIE_OK) {
        status = cuda_check(cuda()->cuMemExportToShareableHandle(
                                fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
                            "a file descriptor of device memory");
    }
    cuda()->cuMemRelease(handle);
    return status;
}

/* Maps the part of a peer. */
static moxie_status_t map_peer(const cuda_sharing_call_t *call, int32_t rank, cuda_part_t *part)
{
    const notice_t notice = notice_of(call->host, rank);
    moxie_status_t status = MOXIE_OK;
    if (notice.bytes == 0 || notice.kind == CUDA_SHARING_NONE) {
        return MOXIE_OK;
    }
    if (notice.kind == CUDA_SHARING_IPC && call->host->peers[rank].pid == getpid()) {
        part->mapping = (char *)(uintptr_t)(notice.address - notice.offset);
        part->kind = CUDA_SHARING_OWN;
    } else if (notice.kind == CUDA_SHARING_IPC) {
        CUdeviceptr address = 0;
        status = cuda_check(
            cuda()->cuIpcOpenMemHandle(&address, notice.ipc, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS),
            "opening a peer's memory");
        part->mapping = (char *)(uintptr_t)address;
        part->kind = status == MOXIE_OK ? CUDA_SHARING_IPC : CUDA_SHARING_NONE;
    } else {
        CUmemGenericAllocationHandle handle;
        status = cuda_check(cuda()->cuMemImportFromShareableHandle(
                                &handle, (void *)(uintptr_t)call->host->parts[rank].fds[0],
                                CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
                            "importing a peer's memory");
        if (status == MOXIE_OK) {
            status = map_handle(call->device, handle, notice.handle_bytes, part);
            cuda()->cuMemRelease(handle);
        }
    }
    if (status != MOXIE_OK) {
        error_detail()->peer = rank;
        return status;
    }
    part->base = part->mapping + notice.offset;
    part->bytes = notice.bytes;
    return MOXIE_OK;
}

/* Tells the peers of this rank's part, maps theirs, and makes sure that all could. */
static moxie_status_t share(const cuda_sharing_call_t *call, const notice_t *notice, int fd,
                            moxie_status_t local, cuda_sharing_t *sharing)
{
    moxie_status_t status = tell(call, PHASE_SHARE, notice, fd, local);
    if (status != MOXIE_OK) {
        return status;
    }
    for (int32_t rank = 0; rank < sharing->rank_count && status == MOXIE_OK; rank++) {
        if (rank != sharing->rank) {
            status = map_peer(call, rank, &sharing->parts[rank]);
        }
    }
    bootstrap_close_fds(call->host->parts, sharing->rank_count);
    return tell(call, PHASE_MAP, notice, -1, status);
}

static void start(const cuda_sharing_call_t *call, cuda_sharing_t *out)
{
    memset(out, 0, sizeof(*out));
    out->rank = call->host->rank;
    out->rank_count = call->host->rank_count;
}

moxie_status_t cuda_sharing_allocate(const cuda_sharing_call_t *call, uint64_t bytes,
                                     moxie_status_t local, cuda_sharing_t *out)
{
    notice_t notice = {.bytes = bytes, .ordinal = call->device->ordinal};
    start(call, out);
    moxie_status_t status = shm_rounds_begin(call->host, call->name);
    if (status == MOXIE_OK) {
        status = tell(call, PHASE_AGREE, &notice, -1, local);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    /* Nobody allocates before everybody has agreed that it fits. */
    status = tell(call, PHASE_AGREE, &notice, -1, check_total(call));
    if (status != MOXIE_OK) {
        return status;
    }
    int fd = -1;
    status = create_own(call, bytes, out, &fd);
    notice.kind = bytes > 0 ? CUDA_SHARING_FD : CUDA_SHARING_NONE;
    notice.handle_bytes = whole_pages(bytes);
    status = share(call, &notice, fd, status, out);
    if (fd >= 0) {
        close(fd);
    }
    if (status != MOXIE_OK) {
        cuda_sharing_close(call, out);
    }
    return status;
}

static moxie_status_t refuse_memory(const char *why)
{
    return error_set(MOXIE_ERR_WINDOW,
                     "this memory cannot be shared: %s; allocate it with cudaMalloc, or with "
                     "cuMemCreate and POSIX file descriptors as handle type",
                     why);
}

/* How memory of the caller's can be shared: a descriptor of its allocation, or an IPC handle. */
static moxie_status_t describe(const cuda_device_t *device, const moxie_memory_t *memory,
                               notice_t *notice, int *fd)
{
    const CUdeviceptr address = (CUdeviceptr)(uintptr_t)memory->base;
    CUmemorytype type = CU_MEMORYTYPE_HOST;
    int ordinal = -1;
    CUdeviceptr start = 0;
    size_t bytes = 0;
    if (memory->bytes == 0) {
        return MOXIE_OK;
    }
    if (cuda()->cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address) !=
            CUDA_SUCCESS ||
        type != CU_MEMORYTYPE_DEVICE) {
        return refuse_memory("it is not memory of a GPU");
    }
    if (cuda()->cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address) !=
            CUDA_SUCCESS ||
        ordinal != device->ordinal) {
        return refuse_memory("it is on another GPU than the group's");
    }
    if (cuda()->cuMemGetAddressRange(&start, &bytes, address) != CUDA_SUCCESS ||
        address - start + memory->bytes > bytes) {
        return refuse_memory("it is not one allocation");
    }
    notice->offset = address - start;
    notice->handle_bytes = bytes;
    CUmemGenericAllocationHandle handle;
    if (cuda()->cuMemRetainAllocationHandle(&handle, memory->base) == CUDA_SUCCESS) {
        const CUresult result = cuda()->cuMemExportToShareableHandle(
            fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
        cuda()->cuMemRelease(handle);
        notice->kind = CUDA_SHARING_FD;
        return result == CUDA_SUCCESS ? MOXIE_OK
                                      : refuse_memory("its allocation has no POSIX descriptor");
    }
    notice->kind = CUDA_SHARING_IPC;
    return cuda()->cuIpcGetMemHandle(&notice->ipc, address) == CUDA_SUCCESS
               ? MOXIE_OK
               : refuse_memory("it has no CUDA IPC handle (memory of a pool or managed memory)");
}

moxie_status_t cuda_sharing_register(const cuda_sharing_call_t *call, const moxie_memory_t *memory,
                                     moxie_status_t local, cuda_sharing_t *out)
{
    notice_t notice = {.bytes = memory->bytes,
                       .ordinal = call->device->ordinal,
                       .address = (uint64_t)(uintptr_t)memory->base};
    int fd = -1;
    start(call, out);
    moxie_status_t status = shm_rounds_begin(call->host, call->name);
    if (status == MOXIE_OK) {
        status = local != MOXIE_OK ? local : describe(call->device, memory, &notice, &fd);
        out->parts[out->rank] =
            (cuda_part_t){.base = memory->base, .bytes = memory->bytes, .kind = CUDA_SHARING_OWN};
        status = share(call, &notice, fd, status, out);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (status != MOXIE_OK) {
        cuda_sharing_close(call, out);
    }
    return status;
}

void cuda_sharing_close(const cuda_sharing_call_t *call, cuda_sharing_t *sharing)
{
    for (int32_t rank = 0; rank < sharing->rank_count; rank++) {
        unmap_part(&sharing->parts[rank]);
    }
    call->host->account->device_bytes -= sharing->charged_bytes;
    sharing->charged_bytes = 0;
}
