//! Images on their way from one place to another: gathered, built, pushed, written.

use std::path::Path;

use cas::Scratch;
use model::Digest;

use super::{INDEX_DEPTH_MAX, Image, Images, Source, mismatch};
use crate::build::{self, Base};
use crate::bundle::{Carried, tag_of};
use crate::document::{self, Document};
use crate::error::{io_error, malformed};
use crate::registry::Stop;
use crate::through::Through;
use crate::{Bundle, ImageError, Lock, Name, Platform, Recipe, Reference, Sum, Watch};

/// Manifests and indexes that travel together: every machine there is, with its attestations, several times over.
const DOCUMENTS_MAX: usize = 1024;

impl Images {
    /// An image with all that belongs to it, on its way to another place; of an index, the images of all machines.
    /// Nothing is unpacked.
    ///
    /// # Errors
    /// As for [`Images::fetch`].
    pub fn gather(&self, reference: &Reference, lock: &Lock, watch: &dyn Watch) -> Result<Bundle, ImageError> {
        let stop = &|| watch.is_stopped();
        let source = self.source(reference)?;
        let (sum, bytes) = self.whole(&source, reference, lock, stop)?;
        let mut bundle = Bundle { documents: Vec::new(), blobs: Vec::new(), from: reference.name().cloned() };
        self.gather_document(&source, &sum, bytes, INDEX_DEPTH_MAX, &mut bundle, watch)?;
        Ok(bundle)
    }

    fn gather_document(
        &self,
        source: &Source,
        sum: &Sum,
        bytes: Vec<u8>,
        depth_left: usize,
        bundle: &mut Bundle,
        watch: &dyn Watch,
    ) -> Result<(), ImageError> {
        let stop: Stop<'_> = &|| watch.is_stopped();
        let what = sum.to_string();
        let document = document::read(&bytes, &what)?;
        let media_type = document::media_type(&bytes, &document);
        match document {
            Document::Index(index) => {
                let depth_left = depth_left.checked_sub(1);
                let depth_left = depth_left.ok_or_else(|| malformed(&what, "it lists indexes that list indexes"))?;
                for entry in &index.manifests {
                    let sum = Sum::from(entry.digest(&what)?);
                    let bytes = self.document(source, &sum, stop)?;
                    self.gather_document(source, &sum, bytes, depth_left, bundle, watch)?;
                }
            }
            Document::Manifest(manifest) => {
                self.store.put(&self.config(source, &manifest, stop)?)?;
                for layer in &manifest.layers {
                    self.make_present(source, layer, stop, watch)?;
                }
                for blob in [&manifest.config].into_iter().chain(&manifest.layers) {
                    if !bundle.blobs.contains(blob) {
                        bundle.blobs.push(*blob);
                    }
                }
            }
        }
        if bundle.documents.len() >= DOCUMENTS_MAX {
            return Err(ImageError::TooLarge { what, bound: format!("{DOCUMENTS_MAX} manifests") });
        }
        bundle.documents.push(Carried { media_type, bytes });
        Ok(())
    }

    /// Builds an image; an index of several when the recipe names several machines.
    ///
    /// # Errors
    /// The base cannot be had, a file cannot be read, or the file system refuses.
    pub fn build(&self, recipe: &Recipe, lock: &Lock, watch: &dyn Watch) -> Result<Bundle, ImageError> {
        let scratch = Scratch::open(&self.cache)?;
        let platforms = match recipe.platforms.as_slice() {
            [] => std::slice::from_ref(&self.options.platform),
            platforms => platforms,
        };
        let mut images = Vec::new();
        for platform in platforms {
            let (base, _image) = self.base(recipe, platform, lock, watch)?;
            let made = build::image(recipe, platform, &base, &self.options.root, scratch.path(), &self.store)?;
            images.push((platform.clone(), made));
        }
        let mut documents: Vec<Carried> = images.iter().map(|(_, made)| made.manifest.clone()).collect();
        if recipe.platforms.len() > 1 {
            documents.push(build::index(&images, &self.store)?);
        }
        let mut blobs: Vec<Digest> = Vec::new();
        for blob in images.iter().flat_map(|(_, made)| [&made.config].into_iter().chain(&made.layers)) {
            if !blobs.contains(blob) {
                blobs.push(*blob);
            }
        }
        Ok(Bundle { documents, blobs, from: recipe.base.as_ref().and_then(|base| base.name().cloned()) })
    }

    /// What a recipe builds on; the image stays unpacked as long as it is looked through.
    fn base(
        &self,
        recipe: &Recipe,
        platform: &Platform,
        lock: &Lock,
        watch: &dyn Watch,
    ) -> Result<(Base, Option<Image>), ImageError> {
        let stop = &|| watch.is_stopped();
        let owners = self.options.owners;
        let Some(reference) = &recipe.base else {
            return Ok((Base { config: Vec::new(), layers: Vec::new(), through: None, owners }, None));
        };
        let resolved = self.resolve_for(reference, platform, lock, stop)?;
        let image = self.fetch(&resolved, watch)?;
        let source = self.source(reference)?;
        let manifest = self.manifest(&source, &resolved, stop)?;
        for layer in &manifest.layers {
            // Unpacked it is; packed it may be gone.
            self.make_present(&source, layer, stop, watch)?;
        }
        let config = self.config(&source, &manifest, stop)?;
        let through = Through::new(&image.layers)
            .map_err(io_error("look through the layers of", Path::new(&reference.to_string())))?;
        Ok((Base { config, layers: manifest.layers, through: Some(through), owners }, Some(image)))
    }

    /// Sends an image to a registry, under a tag or its own digest; what is there already does not travel.
    ///
    /// # Errors
    /// The registry refuses.
    pub fn push(&self, bundle: &Bundle, name: &Name, watch: &dyn Watch) -> Result<(), ImageError> {
        if let Some(sum) = name.sum.filter(|sum| *sum != Sum::from(bundle.digest())) {
            let found = bundle.digest();
            return Err(mismatch("the image that shall be pushed", &sum, Some(found.into())));
        }
        bundle.push(&self.registry, &self.store, name, watch)
    }

    /// Writes an image to where a reference names a layout or an archive.
    ///
    /// # Errors
    /// The reference names something else, or the file system refuses.
    pub fn write(&self, bundle: &Bundle, to: &Reference) -> Result<(), ImageError> {
        match to {
            Reference::Layout(place) => {
                bundle.write_layout(&self.store, &self.options.root.join(&place.path), tag_of(place))
            }
            Reference::Archive(place) => {
                bundle.write_archive(&self.store, &self.options.root.join(&place.path), tag_of(place))
            }
            Reference::Registry(_) | Reference::DockerArchive(_) => Err(ImageError::Reference {
                text: to.to_string(),
                why: "an image is written as `oci:FOLDER[:TAG]` or `oci-archive:FILE[:TAG]`",
            }),
        }
    }
}
