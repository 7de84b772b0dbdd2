//! Reading and writing files in a guest.

use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freestyle_client::wire::{
    DirectoryResponse, Empty, ErrorBody, FileEncoding, FileEntry, FileKind, FileResponse,
    ReadFileOrDirResponse, WriteFileRequest,
};
use freestyle_vm::FileOrDir;

use crate::App;
use crate::authenticate::VmActor;
use crate::body::{Limits, MAX_FILE_BYTES};
use crate::error::{ApiError, Code};
use crate::long_call;
use crate::path::FilePath;

const BAD: Code = Code::FilesBadRequest;

/// Reads a file or lists a directory. A suspended VM is woken, a stopped one started.
///
/// A call that takes longer than 100 seconds answers like a create.
///
/// `filepath` is one percent-encoded segment: `%2Fsrv%2Fa` is `/srv/a`.
#[utoipa::path(
    get,
    path = "/v1/vms/{vm_id}/files/{filepath}",
    operation_id = "readFileOrDir",
    tag = "vms",
    params(
        ("vm_id" = String, Path, description = "The VM"),
        ("filepath" = String, Path, description = "Path in the guest, as one segment"),
        ("X-Freestyle-Vm-Linux-User-Id" = Option<String>, Header, description = "Linux user; root where absent"),
    ),
    responses(
        (status = 200, description = "Content or entries", body = ReadFileOrDirResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn read(
    actor: VmActor,
    FilePath(path): FilePath,
    State(app): State<App>,
) -> Response {
    long_call::answer(async move {
        let read = app.vms.read_path(&actor.account, &actor.vm, actor.user.clone(), &path);
        let read = actor.while_allowed(read).await?;
        read.map(encode).map_err(|error| ApiError::from_vm(error, BAD))
    })
    .await
}

/// Replaces the content of a file, making it and its folders where they are missing. A suspended VM
/// is woken, a stopped one started. At most 64 MiB.
///
/// A call that takes longer than 100 seconds answers like a create.
///
/// `filepath` is one percent-encoded segment: `%2Fsrv%2Fa` is `/srv/a`.
#[utoipa::path(
    put,
    path = "/v1/vms/{vm_id}/files/{filepath}",
    operation_id = "writeFile",
    tag = "vms",
    params(
        ("vm_id" = String, Path, description = "The VM"),
        ("filepath" = String, Path, description = "Path in the guest, as one segment"),
        ("X-Freestyle-Vm-Linux-User-Id" = Option<String>, Header, description = "Linux user; root where absent"),
    ),
    request_body = WriteFileRequest,
    responses(
        (status = 200, description = "Written", body = Empty),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn write(
    actor: VmActor,
    FilePath(path): FilePath,
    State(app): State<App>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = app.bodies.receive(request, Limits::UPLOAD, BAD).await?;
    let (request, permit) = body.json_with_permit(BAD)?;
    let content = decode(request)?;
    Ok(long_call::answer(async move {
        let (account, vm, user) = (&actor.account, &actor.vm, actor.user.clone());
        let written = app.vms.write_file(account, vm, user, &path, content);
        let written = actor.while_allowed(written).await?;
        drop(permit);
        written.map(|()| Empty {}).map_err(|error| ApiError::from_vm(error, BAD))
    })
    .await)
}

fn decode(request: WriteFileRequest) -> Result<Vec<u8>, ApiError> {
    let WriteFileRequest { content, encoding } = request;
    let content = match encoding {
        FileEncoding::Utf8 => content.into_bytes(),
        FileEncoding::Base64 => STANDARD
            .decode(content)
            .map_err(|error| ApiError::new(BAD, format!("content is not base64: {error}")))?,
    };
    if content.len() > MAX_FILE_BYTES {
        return Err(ApiError::new(BAD, format!("the file is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(content)
}

fn encode(found: FileOrDir) -> ReadFileOrDirResponse {
    match found {
        FileOrDir::File(bytes) => ReadFileOrDirResponse::File(match String::from_utf8(bytes) {
            Ok(content) => FileResponse { content, encoding: FileEncoding::Utf8 },
            Err(error) => FileResponse {
                content: STANDARD.encode(error.as_bytes()),
                encoding: FileEncoding::Base64,
            },
        }),
        FileOrDir::Dir(entries) => {
            let files = entries.into_iter().map(|entry| FileEntry {
                name: entry.name,
                kind: if entry.is_dir { FileKind::Directory } else { FileKind::File },
            });
            ReadFileOrDirResponse::Directory(DirectoryResponse { files: files.collect() })
        }
    }
}

#[cfg(test)]
mod tests {
    use freestyle_vm::DirEntry;
    use serde_json::{Value, json};

    use super::*;

    fn decoded(body: Value) -> Result<Vec<u8>, ApiError> {
        decode(serde_json::from_value(body).unwrap())
    }

    #[test]
    fn content_is_text_unless_it_says_base64() {
        assert_eq!(decoded(json!({"content": "aGk="})).unwrap(), b"aGk=");
        assert_eq!(decoded(json!({"content": "é", "encoding": "utf-8"})).unwrap(), "é".as_bytes());
        assert_eq!(decoded(json!({"content": "/w==", "encoding": "base64"})).unwrap(), [0xff]);
        assert_eq!(decoded(json!({"content": "", "encoding": "base64"})).unwrap(), b"");
    }

    #[test]
    fn base64_is_strict() {
        for bad in ["a", "aGk", "aGk=\n", "aGk= ", "_w==", "aGl="] {
            let error = decoded(json!({"content": bad, "encoding": "base64"})).unwrap_err();
            assert_eq!(error.code(), Code::FilesBadRequest, "{bad:?}");
        }
    }

    #[test]
    fn bytes_come_back_as_they_were() {
        for bytes in [&b"text"[..], b"", b"\xff\x00\xfe"] {
            let response = serde_json::to_value(encode(FileOrDir::File(bytes.to_vec()))).unwrap();
            assert_eq!(decoded(response).unwrap(), bytes);
        }
    }

    #[test]
    fn a_directory_lists_names_and_kinds() {
        let entries = vec![
            DirEntry { name: "bin".into(), is_dir: true },
            DirEntry { name: "x".into(), is_dir: false },
        ];
        assert_eq!(
            serde_json::to_value(encode(FileOrDir::Dir(entries))).unwrap(),
            json!({"files": [{"name": "bin", "kind": "directory"}, {"name": "x", "kind": "file"}]}),
        );
    }
}
