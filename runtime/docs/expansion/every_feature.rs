#[far::__private::async_trait]
trait Shop: far::Implements<ShopProxy> + ::core::marker::Sync + Send {
    /// Lends its arguments.
    #[deprecated]
    ///
    /// *At most once*: however often it is sent again, the method runs once or never.
    /// A call waits at most 90s, unless it sets a time of its own.
    ///
    /// Written `-> Vec<u8>`: as a call may fail, it returns `Result<Vec<u8>, CallError>`; see [`CallError`](far::CallError).
    async fn r#move(
        &self,
        order: &Order<'_>,
        bytes: Vec<u8>,
        text: Cow<'_, str>,
    ) -> ::core::result::Result<Vec<u8>, far::CallError>;
    #[cfg(unix)]
    async fn note(
        &self,
        _lines: &[String],
    ) -> ::core::result::Result<(), far::CallError> {
        ::core::result::Result::Ok(
            async move {
                if let ::core::option::Option::Some(early) = ::core::option::Option::None::<
                    (),
                > {
                    return early;
                }
                let returned: () = {
                    println!("noted");
                };
                #[allow(unreachable_code)] returned
            }
                .await,
        )
    }
}
/// Proxy for remote objects that implement [`Shop`].
///
/// Its methods have the trait's names and return a call, which is a future and more: see
/// [`Call`](far::Call). It implements [`Shop`] too, so it stands wherever a
/// local object can. Clones share a connection.
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
struct ShopProxy {
    remote: far::__private::Remote,
}
#[allow(dead_code)]
#[deny(elided_lifetimes_in_paths)]
impl ShopProxy {
    /// Lends its arguments.
    ///
    /// *At most once*: however often it is sent again, the method runs once or never.
    /// A call waits at most 90s, unless it sets a time of its own.
    ///
    /// # Errors
    /// The method has no error of its own.
    /// A [`CallError`](far::CallError) says by [`execution`](far::CallError::execution) whether the method ran.
    #[deprecated]
    fn r#move<'a>(
        &self,
        order: &'a Order<'a>,
        bytes: Vec<u8>,
        text: Cow<'a, str>,
    ) -> far::Call<
        (&'a Order<'a>, far::__private::AsShared, Cow<'a, str>),
        Vec<u8>,
        ::core::convert::Infallible,
    > {
        far::__private::call(
            &self.remote,
            const {
                <dyn Shop as far::Interface>::DESCRIPTOR
                    .position(far::__private::MethodId(0x75ef46ed))
            },
            (order, far::__private::AsShared::from(bytes), text),
            far::__private::decode_bytes,
        )
    }
    /// *One way*: the request is sent once, without a reply; the method runs once or never.
    /// A call waits for nothing but room in the send buffer.
    ///
    /// # Errors
    /// The method has no error of its own.
    /// A [`CallError`](far::CallError) says by [`execution`](far::CallError::execution) whether the method ran.
    #[cfg(unix)]
    fn note<'a>(
        &self,
        _lines: &'a [String],
    ) -> far::Call<(&'a [String],), (), ::core::convert::Infallible> {
        far::__private::call(
            &self.remote,
            const {
                <dyn Shop as far::Interface>::DESCRIPTOR
                    .position(far::__private::MethodId(0x66c8635f))
            },
            (_lines,),
            |bytes| far::__private::decode(bytes),
        )
    }
}
#[automatically_derived]
#[far::__private::async_trait]
impl Shop for ShopProxy {
    #[allow(deprecated)]
    async fn r#move(
        &self,
        order: &Order<'_>,
        bytes: Vec<u8>,
        text: Cow<'_, str>,
    ) -> ::core::result::Result<Vec<u8>, far::CallError> {
        ShopProxy::r#move(self, order, bytes, text).await
    }
    #[cfg(unix)]
    async fn note(
        &self,
        _lines: &[String],
    ) -> ::core::result::Result<(), far::CallError> {
        ShopProxy::note(self, _lines).await
    }
}
#[automatically_derived]
impl far::Proxy for ShopProxy {
    type Interface = dyn Shop;
    fn from_remote(remote: far::__private::Remote) -> Self {
        Self { remote }
    }
    fn as_remote(&self) -> &far::__private::Remote {
        &self.remote
    }
}
#[automatically_derived]
impl far::__private::Serialize for ShopProxy {
    fn serialize<S: far::__private::Serializer>(
        &self,
        serializer: S,
    ) -> ::core::result::Result<S::Ok, S::Error> {
        far::__private::serialize_reference(self, serializer)
    }
}
#[automatically_derived]
impl<'de> far::__private::Deserialize<'de> for ShopProxy {
    fn deserialize<D: far::__private::Deserializer<'de>>(
        deserializer: D,
    ) -> ::core::result::Result<Self, D::Error> {
        far::__private::deserialize_reference(deserializer)
    }
}
/// Group of remote objects that implement [`Shop`], called together.
///
/// Its methods are those of [`ShopProxy`], and return a call to all members: see
/// [`GroupCall`](far::GroupCall) and [`Group`](far::Group).
#[allow(dead_code)]
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
struct ShopGroup {
    members: far::__private::Members,
}
#[allow(dead_code)]
impl ShopGroup {
    /// Lends its arguments.
    ///
    /// Called at each member, as that of [`ShopProxy`] at one.
    #[deprecated]
    fn r#move<'a>(
        &self,
        order: &'a Order<'a>,
        bytes: Vec<u8>,
        text: Cow<'a, str>,
    ) -> far::GroupCall<
        (&'a Order<'a>, far::__private::AsShared, Cow<'a, str>),
        Vec<u8>,
        ::core::convert::Infallible,
    > {
        far::__private::group_call(
            &self.members,
            const {
                <dyn Shop as far::Interface>::DESCRIPTOR
                    .position(far::__private::MethodId(0x75ef46ed))
            },
            (order, far::__private::AsShared::from(bytes), text),
            far::__private::decode_bytes,
        )
    }
    /// Called at each member, as that of [`ShopProxy`] at one.
    #[cfg(unix)]
    fn note<'a>(
        &self,
        _lines: &'a [String],
    ) -> far::GroupCall<(&'a [String],), (), ::core::convert::Infallible> {
        far::__private::group_call(
            &self.members,
            const {
                <dyn Shop as far::Interface>::DESCRIPTOR
                    .position(far::__private::MethodId(0x66c8635f))
            },
            (_lines,),
            |bytes| far::__private::decode(bytes),
        )
    }
}
#[automatically_derived]
impl far::Group for ShopGroup {
    type Interface = dyn Shop;
    fn from_members(members: far::__private::Members) -> Self {
        Self { members }
    }
    fn as_members(&self) -> &far::__private::Members {
        &self.members
    }
}
#[automatically_derived]
impl far::Implements<ShopProxy> for ShopProxy {}
#[automatically_derived]
impl far::Object<dyn Shop> for ShopProxy {
    fn into_interface(self: far::__private::Arc<Self>) -> far::__private::Arc<dyn Shop> {
        self
    }
}
#[automatically_derived]
impl far::Interface for dyn Shop {
    type Proxy = ShopProxy;
    type Marker = ShopProxy;
    const DESCRIPTOR: &'static far::Descriptor = &far::Descriptor {
        name: "Shop",
        methods: &[
            far::MethodDescriptor {
                name: "move",
                id: far::__private::MethodId(0x75ef46ed),
                signature: "async fn r#move(&self, order: &Order<'_>, bytes: Vec<u8>, text: Cow<str>) -> Vec<u8>",
                docs: "Lends its arguments.",
                semantics: far::Semantics::AtMostOnce,
                oneway: false,
                spawn: true,
                timeout: ::core::option::Option::Some(
                    ::core::time::Duration::from_secs(90),
                ),
                max_reply: ::core::option::Option::Some(65536),
            },
            #[cfg(unix)]
            far::MethodDescriptor {
                name: "note",
                id: far::__private::MethodId(0x66c8635f),
                signature: "async fn note(&self, _lines: &[String])",
                docs: "",
                semantics: far::Semantics::Maybe,
                oneway: true,
                spawn: false,
                timeout: ::core::option::Option::Some(
                    ::core::time::Duration::from_secs(90),
                ),
                max_reply: ::core::option::Option::None,
            },
        ],
    };
    fn dispatch(
        object: far::__private::Arc<Self>,
        method: far::__private::MethodId,
        arguments: far::__private::Arguments,
        room: far::__private::Room,
    ) -> far::__private::Dispatch {
        match method.0 {
            #[allow(deprecated)]
            0x75ef46ed => {
                room.put(async move {
                    match far::__private::decode::<
                        (
                            Order<'_>,
                            far::__private::AsBytes<Vec<u8>>,
                            far::__private::CowStr<'_>,
                        ),
                    >(&arguments) {
                        ::core::result::Result::Ok((order, bytes, text)) => {
                            far::__private::answer(
                                <dyn Shop as Shop>::r#move(
                                        &*object,
                                        &order,
                                        bytes.0,
                                        text.0,
                                    )
                                    .await
                                    .map(far::__private::AsShared::from),
                                arguments,
                            )
                        }
                        ::core::result::Result::Err(error) => {
                            far::__private::bad_arguments(error, arguments)
                        }
                    }
                })
            }
            #[cfg(unix)]
            0x66c8635f => {
                room.put(async move {
                    match far::__private::decode::<
                        (far::__private::Vec<String>,),
                    >(&arguments) {
                        ::core::result::Result::Ok((_lines,)) => {
                            far::__private::answer(
                                <dyn Shop as Shop>::note(&*object, &_lines).await,
                                arguments,
                            )
                        }
                        ::core::result::Result::Err(error) => {
                            far::__private::bad_arguments(error, arguments)
                        }
                    }
                })
            }
            _ => far::__private::no_such_method(arguments, room),
        }
    }
}
