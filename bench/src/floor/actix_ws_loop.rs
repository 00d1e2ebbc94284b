//! actix-web with actix-ws, as its guide shows it.

use std::{io, net::TcpListener, rc::Rc};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use actix_ws::{Message, Session};
use futures_util::StreamExt as _;

use crate::rooms::Rooms;

type SessionRooms = Rc<Rooms<Session>>;

pub fn serve(listener: TcpListener) -> io::Result<()> {
    actix_rt::System::new().block_on(async {
        HttpServer::new(|| {
            App::new().app_data(web::Data::new(SessionRooms::default())).route("/{room}", web::get().to(open))
        })
        .workers(1)
        .listen(listener)?
        .run()
        .await
    })
}

async fn open(
    request: HttpRequest,
    body: web::Payload,
    rooms: web::Data<SessionRooms>,
) -> actix_web::Result<HttpResponse> {
    let (response, session, mut messages) = actix_ws::handle(&request, body)?;
    let name = request.path().to_owned();
    actix_rt::spawn(async move {
        let member = Rc::new(session);
        let room = rooms.join(&name, &member);
        while let Some(Ok(message)) = messages.next().await {
            let Message::Text(text) = message else { continue };
            let others: Vec<_> =
                room.borrow().iter().filter(|other| !Rc::ptr_eq(other, &member)).cloned().collect();
            for other in others {
                // The target may have gone.
                let _ = Session::clone(&other).text(text.clone()).await;
            }
        }
        rooms.leave(&name, &room, &member);
    });
    Ok(response)
}
